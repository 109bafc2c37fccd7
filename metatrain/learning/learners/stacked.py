"""A learner that runs another on several episodes at once."""

from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.inner.stack import EpisodeStack
from metatrain.learning.learners.learner import Learner, Memory, OuterGradient


class Stacked(Learner):
    """A learner that gives another `at_once` episodes as one whose loss is their sum.

    Every task has its fast weights, so that the gradient is that of one task after the other; the
    rest of the network works on all images together. Memory grows with `at_once`.

    Args:
        learner: the other learner, over a `StackedInnerLoop`.
        alone: the same over an ordinary inner loop, for a group of one episode.
        at_once: episodes to stack.
    """

    def __init__(self, learner: Learner, alone: Learner, at_once: int) -> None:
        super().__init__(alone.config, alone.inner)
        self.fixed_start = alone.fixed_start
        self._learner, self._alone, self._at_once = learner, alone, at_once

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        return self._alone.episode_gradient(theta, episode, step, memory)

    @override
    def outer_gradient(
        self,
        theta: Parameters,
        episodes: Sequence[Episode],
        step: int,
        memory: Memory | None = None,
    ) -> OuterGradient:
        total = OuterGradient({name: torch.zeros_like(p) for name, p in theta.items()}, {})
        for first in range(0, len(episodes), self._at_once):
            group = episodes[first : first + self._at_once]
            total = total.plus(self._group_gradient(theta, group, step))
        return total

    def _group_gradient(
        self, theta: Parameters, episodes: Sequence[Episode], step: int
    ) -> OuterGradient:
        if len(episodes) == 1:
            return self._alone.outer_gradient(theta, episodes, step)
        scope, count = self.inner.scope, len(episodes)
        wide = {name: theta[name].expand(count, *theta[name].shape) for name in scope}
        stack: Any = EpisodeStack(tuple(episodes))
        outer = self._learner.episode_gradient(theta | wide, stack, step)
        if not outer.is_finite():
            # Repeat one by one, to find the task whose metrics are not finite.
            return self._alone.outer_gradient(theta, episodes, step)
        narrow = {name: outer.gradient[name].sum(dim=0) for name in scope}
        return OuterGradient(outer.gradient | narrow, outer.metrics)
