"""Model-agnostic meta-learning, of second order."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.inner.gradient_field import total
from metatrain.learning.learners.learner import Learner, Memory, OuterGradient
from metatrain.learning.learners.sections import MAMLConfig


class MAML(Learner):
    """MAML (Finn et al. 2017, algorithm 1).

    g = 1/M sum_i d/dtheta L(U_k(theta; S_i); Q_i)

    Differentiates through every inner step, Hessians included, by the method that `meta.gradient`
    and `meta.hvp` choose. With several terms each player's parameters get the derivative of that
    player's query loss.

    Cost: k + 1 gradients and k Hessian-vector products per episode.
    Memory: one inner step's graph and k copies of the moved parameters.
    Use: where FOMAML's bias hurts: long inner loops, learned rates.
    """

    Config = MAMLConfig

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        theta = leaves(theta)
        *_, last = steps = list(self.inner.trace(theta, episode.support_batch, self.lr(step)))
        losses = self.inner.losses(last.phi, episode.query_batch())
        loss = total([loss.detach() for loss in losses])
        metrics = {"loss": loss, "inner_first": steps[0].loss, "inner_last": last.loss}
        metrics |= self.inner.diagnostics(theta, self.lr(step))
        return OuterGradient(self.gradient_of(losses, theta), metrics)

    def gradient_of(self, losses: Sequence[Tensor], theta: Parameters) -> Parameters:
        """Compute each term's derivative, through the inner steps, in the parameters it moves."""
        gradient: Parameters = {}
        for term, names in self.inner.theta.by_term(theta):
            values = [theta[name] for name in names]
            slopes = torch.autograd.grad(
                losses[term], values, materialize_grads=True, retain_graph=term + 1 < len(losses)
            )
            gradient |= zip(names, slopes, strict=True)
        return {name: gradient[name] for name in theta}


def leaves(theta: Parameters) -> Parameters:
    """Make leaves of `theta`, in which to differentiate."""
    return {name: p.detach().requires_grad_() for name, p in theta.items()}
