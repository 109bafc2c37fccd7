"""First-order MAML."""

from metatrain.episodes import Episode
from metatrain.learners.learner import Learner, OuterGradient
from metatrain.parameters import Parameters


class FOMAML(Learner):
    """First-order MAML (Finn et al. 2017, section 5.2; Nichol et al. 2018, section 2).

    phi_i = U_k(theta; S_i),  g = 1/M sum_i grad L(phi_i; Q_i) at phi_i

    MAML's gradient with the Hessian of the inner steps dropped.
    """

    def outer_gradient(self, theta: Parameters, episode: Episode) -> OuterGradient:
        """See `Learner.outer_gradient`."""
        losses = self.inner.adapt(theta, episode.support_batch)
        gradient, query_loss = self.inner.gradient(episode.query_batch())
        return OuterGradient(gradient, {"loss": query_loss, "first": losses[0], "last": losses[-1]})
