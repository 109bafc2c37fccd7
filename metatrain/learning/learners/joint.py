"""Joint training over all tasks: the baseline that every meta-learner has to beat."""

from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Learner, Memory, OuterGradient
from metatrain.learning.learners.sections import JointConfig


class Joint(Learner):
    """Multi-task learning: the plain gradient, no inner loop (Caruana 1997).

    g = 1/M sum_i grad L(theta; S_i + Q_i)

    Fine-tuned on the support at test time it is transfer learning.

    Cost: one gradient per episode.
    Memory: one gradient's graph.
    Use: the baseline that every meta-learner has to beat.
    """

    Config = JointConfig

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        self.inner.start(theta)
        gradient, loss = self.inner.gradient(episode.whole_batch())
        return OuterGradient(gradient, {"loss": loss})
