"""Model-agnostic meta-learning, of second order."""

from typing import Literal

import torch
from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.data.episodes import Episode
from metatrain.learning.learners.learner import Learner, OuterGradient


class MAML(Learner):
    """MAML (Finn et al. 2017, algorithm 1).

    g = 1/M sum_i d/dtheta L(U_k(theta; S_i); Q_i)

    Through every inner step, Hessians included; `meta.gradient` and `meta.hvp` say how.

    Cost: k + 1 gradients and k Hessian-vector products an episode.
    Memory: one inner step's graph and k copies of the moved parameters.
    Use: where FOMAML's bias hurts: long inner loops, learned rates.
    """

    products = True

    class Config(Section):
        """Nothing to set beyond the inner loop."""

        name: Literal["maml"] = "maml"

    def episode_gradient(self, theta: Parameters, episode: Episode, step: int) -> OuterGradient:
        """See `Learner.episode_gradient`."""
        theta = leaves(theta)
        *_, last = steps = list(self.inner.trace(theta, episode.support_batch))
        loss = self.inner.loss(last.phi, episode.query_batch())
        metrics = {"loss": loss.detach(), "inner_first": steps[0].loss, "inner_last": last.loss}
        return OuterGradient(gradient_of(loss, theta), metrics | self.inner.diagnostics(theta))


def leaves(theta: Parameters) -> Parameters:
    """Theta as something to differentiate by."""
    return {name: p.detach().requires_grad_() for name, p in theta.items()}


def gradient_of(loss: Tensor, theta: Parameters) -> Parameters:
    """The gradient of `loss` in every one of `theta`, 0 where it does not depend on it."""
    gradient = torch.autograd.grad(loss, list(theta.values()), materialize_grads=True)
    return dict(zip(theta, gradient, strict=True))
