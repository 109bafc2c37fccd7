"""Several tasks in one inner loop: one network, with the fast weights of every task stacked.

With a small scope the tasks share most of the network, and one call on all their images is faster
than a call for each. Where the scope is all parameters, a small network still gains: its operations
on the few images of a support are too short to keep a processor busy.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.batch import Batch
from metatrain.data.episodes import Episode
from metatrain.generators import Draw
from metatrain.learning.inner.config import InnerConfig, Precision
from metatrain.learning.inner.folded import FoldedLayers
from metatrain.learning.inner.gradient_field import GradientField, total
from metatrain.learning.inner.loop import InnerLoop
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.theta import RULE, Theta

Batches = tuple[Batch, ...]


@dataclass(frozen=True)
class EpisodeStack:
    """Episodes of one shape as one, whose batches are tuples with a batch of each."""

    episodes: tuple[Episode, ...]

    @property
    def task(self) -> str:
        """Join the names of all tasks."""
        return ", ".join(episode.task for episode in self.episodes)

    def support_batch(self, noise_index: int = 0) -> Batches:
        """Make the batch of every episode."""
        return tuple(episode.support_batch(noise_index) for episode in self.episodes)

    def query_batch(self, noise_index: int = 0) -> Batches:
        """Make the batch of every episode."""
        return tuple(episode.query_batch(noise_index) for episode in self.episodes)

    def whole_batch(self, noise_index: int = 0) -> Batches:
        """Make the batch of every episode."""
        return tuple(episode.whole_batch(noise_index) for episode in self.episodes)


class StackedInnerLoop(InnerLoop):
    """An inner loop whose parameters in scope have a first dimension for tasks.

    Losses are sums over the tasks, so that every task gets the gradient of its loss alone. Steps
    move the stacked weights in place, and leave the generator's.
    """

    def __init__(self, theta: Theta, config: InnerConfig, **options: Any) -> None:
        scope = frozenset(SCOPES[config.scope.name].names(theta.generator))
        field = _SumOverTasks(theta, config.precision, scope)
        super().__init__(theta, config, **options, field=field)

    @override
    def steps(
        self,
        theta: Parameters,
        batch: Callable[[int], Any],
        lr: float,
        centre: Parameters | None = None,
    ) -> Iterator[Tensor]:
        self.start(theta)
        moved = {name: nn.Parameter(self._phi[name].clone()) for name in self.scope}
        self._phi = self._phi | moved
        optimizer = self.optimizer(moved, lr)
        for step in range(self.config.steps):
            losses = {}
            for number, names in self._numbered_updates(step):
                draw = self.prepare(batch(number))
                losses[names], gradient = self.field.gradient(self._phi, names, draw)
                for name in names:
                    moved[name].grad = gradient[name].contiguous()
                optimizer.step()
                for name in names:
                    moved[name].grad = None
            yield total(list(losses.values()))

    @override
    def start(self, theta: Parameters) -> None:
        super().start({name: p for name, p in theta.items() if name.startswith(RULE)})
        self._phi = {name: p for name, p in theta.items() if not name.startswith(RULE)}

    @override
    def phi(self) -> Parameters:
        return {name: parameter.detach() for name, parameter in self._phi.items()}

    @override
    def gradient(self, batch: Any) -> tuple[Parameters, Tensor]:
        loss, gradient = self.field.gradient(self._phi, tuple(self._phi), self.prepare(batch))
        return gradient, loss

    @override
    def prepare(self, batch: Any) -> Draw:
        """Stack the draws of all tasks; the tasks' dimension comes first."""
        draws = [self.generator.prepare(one) for one in batch]
        return tuple(torch.stack(parts) for parts in zip(*draws, strict=True))

    @override
    def diagnostics(self, theta: Parameters, lr: float) -> dict[str, Tensor]:
        """Count every value once for every task, as losses are."""
        count = len(theta[self.scope[0]])
        return {name: count * value for name, value in super().diagnostics(theta, lr).items()}


class _SumOverTasks(GradientField):
    """A field summed over tasks, each with separate weights in `scope`."""

    def __init__(self, theta: Theta, precision: Precision, scope: frozenset[str]) -> None:
        super().__init__(theta, precision)
        self._scope = scope

    @override
    def loss(self, weights: Parameters, draw: Draw, term: int = 0) -> Tensor:
        one_task = super().loss
        fixed = {name: w for name, w in weights.items() if name not in self._scope}
        moved = {name: w for name, w in weights.items() if name in self._scope}

        def loss_of_task(fast: Parameters, one: Draw) -> Tensor:
            with FoldedLayers():
                return one_task(fixed | fast, one, term)

        return vmap(loss_of_task)(moved, draw).sum()
