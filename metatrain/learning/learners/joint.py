"""Joint training over all tasks: the baseline that every meta-learner has to beat."""

from typing import Literal

from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Learner, OuterGradient


class Joint(Learner):
    """Multi-task learning: the plain gradient, no inner loop (Caruana 1997).

    g = 1/M sum_i grad L(theta; S_i + Q_i)

    Fine-tuned on the support at test time it is transfer learning.

    Cost: one gradient an episode.
    Memory: one gradient's graph.
    Use: the baseline that every meta-learner has to beat.
    """

    class Config(Section):
        """Nothing to set beyond the inner loop."""

        name: Literal["joint"] = "joint"

    def episode_gradient(self, theta: Parameters, episode: Episode, step: int) -> OuterGradient:
        """See `Learner.episode_gradient`."""
        self.inner.start(theta)
        gradient, loss = self.inner.gradient(episode.whole_batch())
        return OuterGradient(gradient, {"loss": loss})
