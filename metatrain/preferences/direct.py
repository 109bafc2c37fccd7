"""Diffusion-DPO: its loss, and a training on it or on the winners alone.

Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference Optimization", eq. 14: the
expectation over pairs, times and noise is outside of the log-sigmoid, and the winner, the loser and
the reference see the same time and the same noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples, repeated_to
from metatrain.generators import Draw, ErrorsByExample, Generator
from metatrain.generators.objectives.flow import random_stream
from metatrain.model.model import Model
from metatrain.preferences.pairs import Pairs

# Pairs that pass through the network at once.
_AT_ONCE = 32
# Times and noises at which the margin of a pair that is left out is averaged.
_DRAWS = 8
# Tells the random stream of batches from that of their noise.
_ROWS = 1
# The number of the first noise of what is judged, which no step of a training has.
_JUDGED = 2**40


class Errors(NamedTuple):
    """The error of each winner and of each loser, [B]: a mean over the values of an image."""

    winners: Tensor
    losers: Tensor


def margins(errors: Errors, reference: Errors) -> Tensor:
    """Compute by how much more than the reference each winner is preferred to its loser, [B].

    Times beta / 2 it is the argument of the sigmoid in eq. 14. The norms there are sums over
    values; here they are means, and the number of values is part of beta, as T and the weighting
    are, for which published values of beta stand.
    """
    gain = reference.winners - errors.winners
    return gain - (reference.losers - errors.losers)


def preference_loss(margins: Tensor, beta: float) -> Tensor:
    """Compute -log sigmoid(beta / 2 margin) of each pair, [B]; the mean of these is the loss."""
    return F.softplus(-0.5 * beta * margins)


class PairErrors:
    """The errors of an adapted model on pairs, at any weights of its scope.

    Args:
        model: the model, in the scope that is moved.
        names: the parameters of the scope.
        pairs: the pairs.
    """

    def __init__(self, model: Model, names: Sequence[str], pairs: Pairs) -> None:
        generator = model.generator().eval()  # sees the support always, as where it draws
        assert model.support is not None
        self.count = len(pairs)
        self.start: Parameters = {n: model.parameters[n].detach() for n in names}
        self._support = generator.latents(model.support)
        self._winners = self._latents(generator, pairs.winners)
        self._losers = self._latents(generator, pairs.losers)
        self._generator, self._by_example = generator, _ByExample(generator)

    def draws(self, rows: Tensor, seed: int, number: int) -> tuple[Draw, Draw]:
        """Compute the draws of the winners and the losers of some pairs, of one noise and time."""
        winners, losers = (
            self._generator.prepare(self._batch(latents[rows], seed, number))
            for latents in (self._winners, self._losers)
        )
        return winners, losers

    def at(self, weights: Parameters, draws: tuple[Draw, Draw]) -> Errors:
        """Compute the errors of draws at weights of the scope."""
        prefixed = {f"generator.{name}": weight for name, weight in weights.items()}
        winners, losers = (functional_call(self._by_example, prefixed, draw) for draw in draws)
        return Errors(winners, losers)

    def _latents(self, generator: Generator, images: Tensor) -> Tensor:
        return generator.latents(Examples(images.to(self._support.target.device))).target

    def _batch(self, latents: Tensor, seed: int, number: int) -> Batch:
        """Make a batch of drawings, each of the conditions that a drawing alone has."""
        count, support = len(latents), self._support
        given = {name: repeated_to(count, c[:1]) for name, c in support.given.items()}
        examples = Examples(latents, given, encoded=True)
        index = torch.full((count,), -1, device=latents.device)  # none is in the support
        return Batch(examples, support, index, seed, number)


class _ByExample(nn.Module):
    """The errors of a generator as a module, in which `functional_call` changes the weights."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    @override
    def forward(self, *draw: Tensor) -> Tensor:
        objective = self.generator.objective
        assert isinstance(objective, ErrorsByExample)
        return objective.errors(self.generator.network, draw)


# The loss of a batch by its errors and those of the reference.
Loss = Callable[[Errors, Errors], Tensor]


def direct_preference(beta: float) -> Loss:
    """Return the loss of Diffusion-DPO."""
    return lambda errors, reference: preference_loss(margins(errors, reference), beta).mean()


def fine_tuning(errors: Errors, reference: Errors) -> Tensor:
    """Compute the loss of supervised fine-tuning on the winners."""
    return errors.winners.mean()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of trainings on choices.

    Attributes:
        beta: the strength that holds the model to the reference.
        lr: the rate of Adam.
        batch: pairs of a step.
        seed: decides on batches and noise.
    """

    beta: float = 2000.0
    lr: float = 3e-4
    batch: int = 16
    seed: int = 0


class Training:
    """A training of the scope's weights on some of the pairs.

    Args:
        errors: of all pairs.
        rows: the pairs that teach.
        loss: what is minimised.
        settings: the settings.
    """

    def __init__(self, errors: PairErrors, rows: Tensor, loss: Loss, settings: Settings) -> None:
        self._errors, self._rows, self._loss, self._settings = errors, rows, loss, settings
        self._weights = {n: nn.Parameter(p.clone()) for n, p in errors.start.items()}
        self._optimizer = torch.optim.Adam(self._weights.values(), lr=settings.lr)
        self._step = 0

    @property
    def weights(self) -> Parameters:
        """The weights as they stand."""
        return {name: p.detach().clone() for name, p in self._weights.items()}

    def step(self) -> None:
        """Take a step on a random batch."""
        seed, number = self._settings.seed, self._step
        order = torch.randperm(len(self._rows), generator=random_stream(seed, number, _ROWS))
        draws = self._errors.draws(self._rows[order[: self._settings.batch]], seed, number)
        with torch.no_grad():
            reference = self._errors.at(self._errors.start, draws)
        loss = self._loss(self._errors.at({**self._weights}, draws), reference)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._step += 1


class Judged:
    """Pairs that a training leaves out, at times and noise that stay the same.

    Args:
        errors: of all pairs.
        rows: the pairs that are left out.
        seed: of times and noise.
    """

    def __init__(self, errors: PairErrors, rows: Tensor, seed: int) -> None:
        self._errors, self._count = errors, len(rows)
        self._parts, self._seed = rows.repeat(_DRAWS).split(_AT_ONCE), seed
        self._reference = self._all(errors.start)

    def margins(self, weights: Parameters) -> Tensor:
        """Compute the mean margin of each pair, [N] in float64."""
        every = margins(self._all(weights), self._reference)
        return every.view(_DRAWS, self._count).mean(dim=0).double().cpu()

    @torch.no_grad()
    def _all(self, weights: Parameters) -> Errors:
        # Drawn anew each time: kept, they would take many times the bytes of the pairs.
        draws = (
            self._errors.draws(part, self._seed, _JUDGED + number)
            for number, part in enumerate(self._parts)
        )
        winners, losers = zip(*(self._errors.at(weights, d) for d in draws), strict=True)
        return Errors(torch.cat(winners), torch.cat(losers))
