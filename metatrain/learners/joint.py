"""Joint training over all tasks: the baseline that every meta-learner has to beat."""

from metatrain.episodes import Episode
from metatrain.learners.learner import Learner, OuterGradient
from metatrain.parameters import Parameters


class Joint(Learner):
    """Multi-task learning: the plain gradient, no inner loop (Caruana 1997).

    g = 1/M sum_i grad L(theta; S_i + Q_i)

    Fine-tuned on the support at test time it is transfer learning.
    """

    def outer_gradient(self, theta: Parameters, episode: Episode) -> OuterGradient:
        """See `Learner.outer_gradient`."""
        self.inner.start(theta)
        gradient, loss = self.inner.gradient(episode.whole_batch())
        return OuterGradient(gradient, {"loss": loss})
