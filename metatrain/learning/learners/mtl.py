"""Multi-task learning with a head a task."""

from typing import Literal

from pydantic import Field
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Learner, Memory, Notes, OuterGradient, mean_by_task


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
    remembers = True

    class Config(Section):
        """The heads' rate."""

        name: Literal["mtl"] = "mtl"
        head_lr: float = Field(default=0.1, gt=0, description="Learning rate of the heads.")

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        device = next(iter(theta.values())).device
        known = (memory or {}).get(episode.task)
        head = {n: known[n].to(device) if known else theta[n] for n in self.inner.scope}
        self.inner.start(theta | head)
        gradient, loss = self.inner.gradient(episode.whole_batch())
        head = {name: h - self.config.head_lr * gradient[name] for name, h in head.items()}
        towards = {name: theta[name] - h for name, h in head.items()}
        note = (episode.task, {name: h.cpu() for name, h in head.items()})
        return OuterGradient(gradient | towards, {"loss": loss}, notes=(note,))

    @override
    def remember(self, memory: Memory, theta: Parameters, notes: Notes) -> Memory:
        return {**memory, **mean_by_task(notes)}
