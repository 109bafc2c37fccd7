"""First-order MAML."""

from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Learner, Memory, OuterGradient
from metatrain.learning.learners.sections import FOMAMLConfig


class FOMAML(Learner):
    """First-order MAML (Finn et al. 2017, section 5.2; Nichol et al. 2018, section 2).

    g = 1/M sum_i grad L(phi_i; Q_i) at phi_i = U_k(theta; S_i)

    MAML's gradient with the Hessian of the inner steps dropped.

    Cost: k + 1 gradients per episode.
    Memory: one gradient's graph, and phi.
    Use: short inner loops, where MAML is too slow.
    """

    Config = FOMAMLConfig

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        losses = self.inner.adapt(theta, episode.support_batch, self.lr(step))
        gradient, query_loss = self.inner.gradient(episode.query_batch())
        return OuterGradient(
            gradient, {"loss": query_loss, "inner_first": losses[0], "inner_last": losses[-1]}
        )
