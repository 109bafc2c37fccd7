"""Fast context adaptation."""

from dataclasses import replace

import torch
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Memory, OuterGradient
from metatrain.learning.learners.maml import MAML
from metatrain.learning.learners.sections import CAVIAConfig


class CAVIA(MAML):
    """CAVIA (Zintgraf et al. 2019, "Fast Context Adaptation via Meta-Learning", eq. 3 and 4).

    g = 1/M sum_i d/dtheta L(theta, c_i; Q_i), c_i = U_k(0; S_i) on the context vector alone

    The vector starts at 0 in every task: its start is not learned.

    Cost: as MAML.
    Memory: one inner step's graph.
    Use: tiny adapted models: a task is `inner.scope.size` numbers.
    """

    fixed_start = True

    Config = CAVIAConfig

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        outer = super().episode_gradient(theta, episode, step, memory)
        start = {name: torch.zeros_like(theta[name]) for name in self.inner.scope}
        return replace(outer, gradient=outer.gradient | start)
