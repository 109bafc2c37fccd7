"""A training on choices, by Diffusion-DPO or on the winners alone.

The formula of Diffusion-DPO is in `metatrain.generators.objectives.preference`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metatrain.base.parameters import Parameters
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples, repeated_to
from metatrain.generators import Draw, ErrorsByExample, Generator
from metatrain.generators.objectives.flow import random_stream
from metatrain.generators.objectives.preference import (
    ByExample,
    Errors,
    margins,
    preference_loss,
)
from metatrain.model.model import Model
from metatrain.preferences.pairs import Pairs
from metatrain.preferences.starts import Settings, Start, standard_start

# Pairs that pass through the network at once.
_AT_ONCE = 32
# Times and noises at which the margin of a pair that is left out is averaged.
_DRAWS = 8
# Tells the random stream of batches from that of their noise.
_ROWS = 1
# The number of the first noise of what is judged, which no step of a training has.
_JUDGED = 2**40


class PairErrors:
    """The errors of an adapted model on pairs, at any weights of its scope.

    Args:
        model: the model, in the scope that is moved; it is the reference.
        names: the parameters of the scope.
        pairs: the pairs.

    Attributes:
        count: the number of pairs.
        reference: the model's weights of the scope.
    """

    def __init__(self, model: Model, names: Sequence[str], pairs: Pairs) -> None:
        generator = model.generator().eval()  # sees the support always, as where it draws
        assert model.support is not None
        self.count = len(pairs)
        self.reference: Parameters = {n: model.parameters[n].detach() for n in names}
        self._support = generator.latents(model.support)
        self._winners = self._latents(generator, pairs.winners)
        self._losers = self._latents(generator, pairs.losers)
        assert isinstance(generator.objective, ErrorsByExample)
        self._generator = generator
        self._by_example = ByExample(generator.objective, generator.network)

    def draws(self, rows: Tensor, seed: int, number: int) -> tuple[Draw, Draw]:
        """Compute the draws of the winners and the losers of some pairs, of one noise and time."""
        winners, losers = (
            self._generator.prepare(self._batch(latents[rows], seed, number))
            for latents in (self._winners, self._losers)
        )
        return winners, losers

    def at(self, weights: Parameters, draws: tuple[Draw, Draw]) -> Errors:
        """Compute the errors of draws at weights of the scope."""
        winners, losers = (functional_call(self._by_example, weights, draw) for draw in draws)
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


# The loss of a batch by its errors and those of the reference.
Loss = Callable[[Errors, Errors], Tensor]


def direct_preference(beta: float) -> Loss:
    """Return the loss of Diffusion-DPO."""
    return lambda errors, reference: preference_loss(margins(errors, reference), beta).mean()


def fine_tuning(errors: Errors, reference: Errors) -> Tensor:
    """Compute the loss of supervised fine-tuning on the winners."""
    return errors.winners.mean()


class Training:
    """A training of the scope's weights on some of the pairs.

    Args:
        errors: of all pairs.
        rows: the pairs that teach.
        loss: what is minimised.
        settings: the settings.
        start: where it starts; by default at the reference, with Adam.
    """

    def __init__(
        self,
        errors: PairErrors,
        rows: Tensor,
        loss: Loss,
        settings: Settings,
        start: Start | None = None,
    ) -> None:
        self._errors, self._rows, self._loss, self._settings = errors, rows, loss, settings
        start = start or standard_start(errors.reference, settings)
        self._weights = {n: nn.Parameter(start.weights[n].clone()) for n in errors.reference}
        self._optimizer = start.optimizer(self._weights)
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
            reference = self._errors.at(self._errors.reference, draws)
        loss = self._loss(self._errors.at({**self._weights}, draws), reference)
        for weight in self._weights.values():
            weight.grad = None
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
        self._reference = self._all(errors.reference)

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
