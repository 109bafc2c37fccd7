"""Reptile."""

from typing import Literal

from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Learner, OuterGradient


class Reptile(Learner):
    """Reptile (Nichol et al. 2018, "On First-Order Meta-Learning Algorithms", algorithm 2).

    g = 1/M sum_i (theta - phi_i), phi_i = U_k(theta; S_i + Q_i)

    With a scope smaller than the generator, theta - phi_i is zero outside of it, and a generator
    that starts from nothing would never learn. Parameters outside the scope are shared by all
    tasks, and get the gradient of the loss at phi_i instead, as in FOMAML.

    Cost: k gradients an episode.
    Memory: one gradient's graph, and phi.
    Use: the default: any inner optimiser, many inner steps, nothing to tune.
    """

    class Config(Section):
        """Nothing to set beyond the inner loop."""

        name: Literal["reptile"] = "reptile"

    def episode_gradient(self, theta: Parameters, episode: Episode, step: int) -> OuterGradient:
        """See `Learner.episode_gradient`."""
        return self.towards_phi(theta, episode, centre=theta)

    def towards_phi(self, theta: Parameters, episode: Episode, centre: Parameters) -> OuterGradient:
        """Theta - phi, with phi found near `centre` as far as there is a proximal term."""
        losses = self.inner.adapt(theta, episode.whole_batch, centre)
        phi, scope = self.inner.phi(), self.inner.scope
        gradient = {name: theta[name] - phi[name] for name in scope}
        if len(scope) < len(theta):
            shared, _ = self.inner.gradient(episode.whole_batch(draw=len(losses)))
            gradient = shared | gradient
        metrics = {"loss": losses.mean(), "inner_first": losses[0], "inner_last": losses[-1]}
        return OuterGradient(gradient, metrics)
