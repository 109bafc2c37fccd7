"""Losses of single images under an adapted model, by which its training images may be told."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators import Draw, ErrorsByExample, Generator
from metatrain.model.progression import LOSS_DRAWS, query_loss


def image_losses(generator: Generator, episode: Episode) -> tuple[Tensor, Tensor]:
    """Return the loss of each image that the model adapted to [K], and of each other one [Q].

    All have the same noise, and are conditioned on the whole support, as samples are.
    """
    return _losses(generator, episode, episode.support), _losses(generator, episode, episode.query)


def _losses(generator: Generator, episode: Episode, examples: Examples) -> Tensor:
    ones = [replace(episode, query=examples[i : i + 1]) for i in range(len(examples))]
    if not isinstance(generator.objective, ErrorsByExample):
        return torch.tensor([query_loss(generator, one) for one in ones], dtype=torch.float64)
    return _losses_together(generator, generator.objective, ones).double()


@torch.no_grad()
def _losses_together(
    generator: Generator, objective: ErrorsByExample, ones: Sequence[Episode]
) -> Tensor:
    """Compute the query loss of several episodes, each of one query example, to rounding."""
    generator.eval()  # every image sees the support
    errors = []
    for number in range(LOSS_DRAWS):
        draws = [generator.prepare(one.query_batch(number)) for one in ones]
        errors.append(objective.errors(generator.network, _joined(generator, draws)))
    generator.train()
    return torch.stack(errors).mean(dim=0).cpu()


def _joined(generator: Generator, draws: Sequence[Draw]) -> Draw:
    """Join draws of one support, which is the part that even a share of no examples has."""
    nothing = generator.objective.share(draws[0], slice(0))
    parts = zip(nothing, *draws, strict=True)
    return tuple(values[0] if len(none) else torch.cat(values) for none, *values in parts)
