"""Multi-task learning with one head per task."""

from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Learner, Memory, Notes, OuterGradient, mean_by_task
from metatrain.learning.learners.sections import MTLConfig


class MTL(Learner):
    """MTL as in Wang et al. 2021, "Bridging Multi-Task Learning and Meta-Learning".

    g = 1/M sum_i grad_body L(body, h_i; S_i + Q_i), h_i <- h_i - a grad_h L(body, h_i; S_i + Q_i)

    Body and heads descend jointly, without an inner loop. A task's head starts as theta's when the
    task first occurs; theta's head follows the tasks' heads, g_head = 1/M sum_i (theta_head - h_i),
    and is where the fine-tuning on a new task starts.

    Cost: one gradient per episode.
    Memory: one gradient's graph, and a head per task, on every worker.
    Use: the baseline between joint training and ANIL.
    """

    Config = MTLConfig

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        device = next(iter(theta.values())).device
        stored = (memory or {}).get(episode.task)
        head = {n: stored[n].to(device) if stored else theta[n] for n in self.inner.scope}
        self.inner.start(theta | head)
        gradient, loss = self.inner.gradient(episode.whole_batch())
        head = {name: h - self.config.head_lr * gradient[name] for name, h in head.items()}
        towards = {name: theta[name] - h for name, h in head.items()}
        note = (episode.task, {name: h.cpu() for name, h in head.items()})
        return OuterGradient(gradient | towards, {"loss": loss}, notes=(note,))

    @override
    def remember(self, memory: Memory, theta: Parameters, notes: Notes) -> Memory:
        return {**memory, **mean_by_task(notes)}
