"""Reptile."""

from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Learner, Memory, OuterGradient
from metatrain.learning.learners.sections import ReptileConfig


class Reptile(Learner):
    """Reptile (Nichol et al. 2018, "On First-Order Meta-Learning Algorithms", algorithm 2).

    g = 1/M sum_i (theta - phi_i), phi_i = U_k(theta; S_i + Q_i)

    With a scope smaller than the generator, theta - phi_i is zero outside the scope, and a new
    generator would never learn. Parameters outside the scope are shared by all tasks, and get the
    gradient of the loss at phi_i instead, as in FOMAML.

    Cost: k gradients per episode.
    Memory: one gradient's graph, and phi.
    Use: the default: any inner optimiser, many inner steps, nothing to tune.
    """

    Config = ReptileConfig

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        return self.towards_phi(theta, episode, self.lr(step), centre=theta)

    def towards_phi(
        self, theta: Parameters, episode: Episode, lr: float, centre: Parameters
    ) -> OuterGradient:
        """Compute theta - phi; a proximal term, if any, pulls phi towards `centre`."""
        losses = self.inner.adapt(theta, episode.whole_batch, lr, centre)
        phi, scope = self.inner.phi(), self.inner.scope
        gradient = {name: theta[name] - phi[name] for name in scope}
        if len(scope) < len(theta):
            shared, _ = self.inner.gradient(episode.whole_batch(noise_index=self.inner.draws))
            gradient = shared | gradient
        metrics = {"loss": losses.mean(), "inner_first": losses[0], "inner_last": losses[-1]}
        return OuterGradient(gradient, metrics)
