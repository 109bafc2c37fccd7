"""Several tasks in one inner loop: one network, and fast weights of every task side by side.

With a small scope most of the network is the same for all tasks, and one call on all their images
is faster than a call for each. Where the scope is everything there is nothing to share.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from metatrain.base.parameters import Parameters
from metatrain.data.batch import Batch
from metatrain.data.episodes import Episode
from metatrain.generators import Draw, Generator
from metatrain.learning.inner.gradient import FirstOrder
from metatrain.learning.inner.hvp import plain_attention
from metatrain.learning.inner.loop import RULE, InnerLoop
from metatrain.learning.inner.loss import Loss, Precision

Batches = tuple[Batch, ...]


@dataclass(frozen=True)
class EpisodeStack:
    """Episodes of one shape, seen as one: its batches are tuples with a batch of each."""

    episodes: tuple[Episode, ...]

    @property
    def task(self) -> str:
        """The names of all tasks."""
        return ", ".join(episode.task for episode in self.episodes)

    def support_batch(self, draw: int = 0) -> Batches:
        """See `Episode.support_batch`."""
        return tuple(episode.support_batch(draw) for episode in self.episodes)

    def query_batch(self, draw: int = 0) -> Batches:
        """See `Episode.query_batch`."""
        return tuple(episode.query_batch(draw) for episode in self.episodes)

    def whole_batch(self, draw: int = 0) -> Batches:
        """See `Episode.whole_batch`."""
        return tuple(episode.whole_batch(draw) for episode in self.episodes)


class StackedInnerLoop(InnerLoop):
    """An inner loop whose parameters in scope have a first dimension for tasks.

    Losses are sums over the tasks, so that every task's gradient is its own. Nothing is done in
    place: what is moved is small.
    """

    def adapt(
        self,
        theta: Parameters,
        batch: Callable[[int], Any],
        centre: Parameters | None = None,
    ) -> Tensor:
        """See `InnerLoop.adapt`; `theta` has the tasks' dimension where it is in scope."""
        *_, last = steps = list(self.trace(theta, batch, FirstOrder(self.loss_at)))
        self._phi = last.phi
        return torch.stack([step.loss for step in steps])

    def start(self, theta: Parameters) -> None:
        """See `InnerLoop.start`."""
        super().start({name: p for name, p in theta.items() if name.startswith(RULE)})
        self._phi = {name: p for name, p in theta.items() if not name.startswith(RULE)}

    def phi(self) -> Parameters:
        """See `InnerLoop.phi`."""
        return self._phi

    def gradient(self, batch: Any) -> tuple[Parameters, Tensor]:
        """See `InnerLoop.gradient`; the loss is the sum over the tasks."""
        loss, gradient = self.loss_at.gradient(self._phi, tuple(self._phi), self.draw(batch))
        return gradient, loss

    def draw(self, batch: Any) -> Draw:
        """See `InnerLoop.draw`; the tasks' dimension comes first."""
        draws = [self.generator.draw(one) for one in batch]
        return tuple(torch.stack(parts) for parts in zip(*draws, strict=True))

    def diagnostics(self, theta: Parameters) -> dict[str, Tensor]:
        """See `InnerLoop.diagnostics`; counted once for every task, as losses are."""
        count = len(theta[self.scope[0]])
        return {name: count * value for name, value in super().diagnostics(theta).items()}

    def _loss(self) -> Loss:
        return _SumOfLosses(self.generator, self.config.precision, frozenset(self.scope))


class _SumOfLosses(Loss):
    """The loss summed over tasks, of which each has weights of its own in `scope`."""

    def __init__(self, generator: Generator, precision: Precision, scope: frozenset[str]) -> None:
        super().__init__(generator, precision)
        self._scope = scope

    def __call__(self, weights: Parameters, draw: Draw) -> Tensor:
        """See `Loss.__call__`."""
        one = super().__call__
        fixed = {name: w for name, w in weights.items() if name not in self._scope}
        moved = {name: w for name, w in weights.items() if name in self._scope}
        with plain_attention():
            return vmap(lambda own, drawn: one(fixed | own, drawn))(moved, draw).sum()
