"""Multi-task learning with a head a task."""

from typing import Any, Literal

from pydantic import Field

from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Gather, Learner, OuterGradient, mean_by_task


class MTL(Learner):
    """MTL as in Wang et al. 2021, "Bridging Multi-Task Learning and Meta-Learning".

    g = 1/M sum_i grad_body L(body, h_i; S_i + Q_i), h_i <- h_i - a grad_h L(body, h_i; S_i + Q_i)

    Body and heads descend jointly, and nothing is unrolled. A head begins where theta's is when its
    task is first met; theta's own follows the heads, g_head = 1/M sum_i (theta_head - h_i), and is
    where the fine-tuning of a new task begins.

    Cost: one gradient an episode.
    Memory: one gradient's graph, and a head for every task, on every worker.
    Use: the baseline between joint training and ANIL.
    """

    scope = "head"
    stackable = False  # heads belong to tasks

    class Config(Section):
        """The heads' rate."""

        name: Literal["mtl"] = "mtl"
        head_lr: float = Field(default=0.1, gt=0, description="Learning rate of the heads.")

    def __init__(self, config: Any, inner: Any) -> None:
        super().__init__(config, inner)
        self._heads: list[tuple[str, Parameters]] = []

    def episode_gradient(self, theta: Parameters, episode: Episode, step: int) -> OuterGradient:
        """See `Learner.episode_gradient`."""
        device = next(iter(theta.values())).device
        known = self.by_task.get(episode.task)
        head = {n: known[n].to(device) if known else theta[n] for n in self.inner.scope}
        self.inner.start(theta | head)
        gradient, loss = self.inner.gradient(episode.whole_batch())
        head = {name: h - self.config.head_lr * gradient[name] for name, h in head.items()}
        self._heads.append((episode.task, {name: h.cpu() for name, h in head.items()}))
        towards = {name: theta[name] - h for name, h in head.items()}
        return OuterGradient(gradient | towards, {"loss": loss})

    def end_step(self, theta: Parameters, gather: Gather) -> None:
        """See `Learner.end_step`."""
        self.by_task.update(mean_by_task(gather(self._heads)))
        self._heads = []
