"""The gradient of an inner step as something that can itself be differentiated.

An outer gradient of second order runs back through the inner steps. At each it needs, for the
vector that arrives, the Hessian of the support loss times that vector. `Unrolled` leaves this to
autograd, which keeps the graph of every inner step. `Adjoint` keeps the weights alone and makes the
product on the way back, whichever way `hvp` goes; autograd does the rest of the recursion, so that
learned rates and stateful optimisers need nothing special.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metatrain.base.parameters import Parameters
from metatrain.generators import Draw
from metatrain.learning.inner.hvp import HVP, plain_attention
from metatrain.learning.inner.loss import Loss


class InnerGradient(ABC):
    """Computes a support loss, detached, and its gradient in the moved weights, in the graph."""

    @abstractmethod
    def __call__(
        self, moved: Parameters, fixed: Parameters, draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """Loss and gradient at `moved` and `fixed` weights, differentiable in both."""


class FirstOrder(InnerGradient):
    """The gradient as a constant, which drops the Hessian."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(
        self, moved: Parameters, fixed: Parameters, draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """See `InnerGradient.__call__`."""
        return self.loss.gradient(fixed | moved, tuple(moved), draw)


class Unrolled(InnerGradient):
    """Keeps the graph (Finn et al. 2017): exact; memory grows with the number of inner steps."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(
        self, moved: Parameters, fixed: Parameters, draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """See `InnerGradient.__call__`."""
        with plain_attention():
            loss = self.loss(fixed | moved, draw)
            gradient = torch.autograd.grad(
                loss, list(moved.values()), create_graph=True, materialize_grads=True
            )
        return loss.detach(), dict(zip(moved, gradient, strict=True))


class Adjoint(InnerGradient):
    """Keeps the weights: v <- v - alpha H(phi_t) v, one product an inner step, going backward.

    As exact as `hvp` is; memory is one inner step's, and the weights after each.
    """

    def __init__(self, hvp: HVP) -> None:
        self.hvp = hvp

    def __call__(
        self, moved: Parameters, fixed: Parameters, draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """See `InnerGradient.__call__`."""
        at = _Place(self.hvp, tuple(moved), tuple(fixed), draw)
        loss, *gradient = _AdjointGradient.apply(at, *moved.values(), *fixed.values())  # pyright: ignore
        return loss, dict(zip(moved, gradient, strict=True))


class _Place(NamedTuple):
    """All of an inner step but the weights' values."""

    hvp: HVP
    moved: tuple[str, ...]
    fixed: tuple[str, ...]
    draw: Draw


class _AdjointGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, at: _Place, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.at = at
        ctx.save_for_backward(*values)
        weights = dict(zip((*at.moved, *at.fixed), values, strict=True))
        loss, gradient = at.hvp.loss.gradient(weights, at.moved, at.draw)
        ctx.mark_non_differentiable(loss)
        return loss, *gradient.values()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        at, (_, *vector) = ctx.at, cotangents
        weights = dict(zip((*at.moved, *at.fixed), ctx.saved_tensors, strict=True))
        product = at.hvp(weights, dict(zip(at.moved, vector, strict=True)), at.draw)
        return None, *(product[name] for name in weights)


def query_loss(loss: Loss, weights: Parameters, draw: Draw) -> Tensor:
    """The loss on `draw`, differentiable once in `weights`; keeps its gradient, not its graph."""
    names = tuple(weights)
    return _QueryLoss.apply(loss, names, draw, *weights.values())  # pyright: ignore


class _QueryLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss_at: Loss, names: tuple[str, ...], draw: Draw, *values: Tensor
    ) -> Tensor:
        loss, gradient = loss_at.gradient(dict(zip(names, values, strict=True)), names, draw)
        ctx.save_for_backward(*gradient.values())
        return loss

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *cotangents: Tensor
    ) -> tuple[Tensor | None, ...]:
        (factor,) = cotangents
        return None, None, None, *(factor * gradient for gradient in ctx.saved_tensors)
