"""Consensus by the alternating direction method of multipliers."""

from typing import Any

from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Memory, Notes, OuterGradient, mean_by_task
from metatrain.learning.learners.reptile import Reptile
from metatrain.learning.learners.sections import ADMMConfig


class ADMM(Reptile):
    """Global consensus ADMM (Boyd et al. 2011, "Distributed Optimization ...", eq. 7.6 to 7.8).

    g = theta - prox(1/M sum_i (phi_i + u_i)),
    phi_i = argmin L(phi; S_i + Q_i) + rho/2 |phi - theta + u_i|^2,  then u_i += phi_i - theta

    The dual decomposition of sum_i (f_i(phi_i) + decay/2 |z|^2) such that every phi_i = z. Theta is
    z; in scope all, `meta.optimizer=sgd meta.lr=1 meta.warmup=0 meta.decay=0` takes the full step.
    The argmin is approximated by k inner steps from theta. Parameters outside the scope take no
    part in the consensus, and get their gradient at phi. With u = 0, rho -> 0 and no decay it is
    Reptile.

    Cost: k gradients per episode.
    Memory: one gradient's graph, and a dual of the moved parameters' size per task, on every
    worker: suits scopes film, lora, head, context, or few tasks.
    Use: few large tasks that recur and conflict.
    """

    Config = ADMMConfig

    @staticmethod
    @override
    def proximity(config: Any) -> float:
        return config.rho

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        scope, device = self.inner.scope, next(iter(theta.values())).device
        stored = (memory or {}).get(episode.task)
        dual = {name: stored[name].to(device) if stored else 0.0 for name in scope}
        centre = {name: theta[name] - dual[name] for name in scope}
        reptile = self.towards_phi(theta, episode, self.lr(step), centre)
        sums = {name: theta[name] - reptile.gradient[name] + dual[name] for name in scope}
        # The proximal map of decay/2 |z|^2 is a factor, and so may come before the mean.
        factor = self.config.rho / (self.config.rho + self.config.decay)
        gradient = {name: theta[name] - factor * sums[name] for name in scope}
        note = (episode.task, {name: s.cpu() for name, s in sums.items()})
        return OuterGradient(reptile.gradient | gradient, reptile.metrics, notes=(note,))

    @override
    def remember(self, memory: Memory, theta: Parameters, notes: Notes) -> Memory:
        """Set the duals of this step's tasks to u_i + phi_i - theta, at the new theta."""
        duals = {
            task: {name: s - theta[name].cpu() for name, s in sums.items()}
            for task, sums in mean_by_task(notes).items()
        }
        return {**memory, **duals}
