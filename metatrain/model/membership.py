"""Losses of single images under an adapted model, by which its training images may be told."""

from dataclasses import replace

import torch
from torch import Tensor

from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators import Generator
from metatrain.model.progression import query_loss


def image_losses(generator: Generator, episode: Episode) -> tuple[Tensor, Tensor]:
    """Return the loss of each image that the model adapted to [K], and of each other one [Q].

    All have the same noise, and are conditioned on the whole support, as samples are.
    """
    return _losses(generator, episode, episode.support), _losses(generator, episode, episode.query)


def _losses(generator: Generator, episode: Episode, examples: Examples) -> Tensor:
    ones = [replace(episode, query=examples[i : i + 1]) for i in range(len(examples))]
    return torch.tensor([query_loss(generator, one) for one in ones], dtype=torch.float64)
