"""The gradient of an inner step as a function that can itself be differentiated.

A second-order outer gradient is backpropagated through the inner steps. At each step it needs the
transposed Jacobian of the support's gradient field (the Hessian, for one term) times the incoming
vector. `Unrolled` leaves this to autograd, which keeps the graph of every inner step. `Adjoint`
keeps only the weights, and computes the product in the backward pass, by any `hvp`; autograd does
the rest of the recursion, so that learned rates and stateful optimisers need no special treatment.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.generators import Draw
from metatrain.learning.inner.gradient_field import GradientField
from metatrain.learning.inner.hvp import HVP, plain_attention


class InnerGradient(ABC):
    """A differentiable gradient of the support's loss."""

    @abstractmethod
    def __call__(
        self, moved: Parameters, fixed: Parameters, draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """Compute loss and gradient at `moved` and `fixed` weights.

        Returns:
            The loss, detached, and the gradient in `moved`, differentiable in both.
        """


class FirstOrder(InnerGradient):
    """The gradient as a constant, which drops the Hessian."""

    def __init__(self, field: GradientField) -> None:
        self.field = field

    @override
    def __call__(
        self, moved: Parameters, fixed: Parameters, draw: Draw
    ) -> tuple[Tensor, Parameters]:
        return self.field.gradient(fixed | moved, tuple(moved), draw)


class Unrolled(InnerGradient):
    """The gradient with its graph (Finn et al. 2017): exact; memory grows with the inner steps."""

    def __init__(self, field: GradientField) -> None:
        self.field = field

    @override
    def __call__(
        self, moved: Parameters, fixed: Parameters, draw: Draw
    ) -> tuple[Tensor, Parameters]:
        with plain_attention():
            return self.field.differentiable(fixed | moved, tuple(moved), draw)


class Adjoint(InnerGradient):
    """The gradient with only the weights kept: v <- v - alpha H(phi_t) v, one product per step.

    As exact as `hvp`; memory is that of one inner step, and the weights after each.
    """

    def __init__(self, hvp: HVP) -> None:
        self.hvp = hvp

    @override
    def __call__(
        self, moved: Parameters, fixed: Parameters, draw: Draw
    ) -> tuple[Tensor, Parameters]:
        step = _Step(self.hvp, tuple(moved), tuple(fixed), draw)
        loss, *gradient = _AdjointGradient.apply(step, *moved.values(), *fixed.values())  # pyright: ignore
        return loss, dict(zip(moved, gradient, strict=True))


class _Step(NamedTuple):
    """An inner step without the weights' values."""

    hvp: HVP
    moved: tuple[str, ...]
    fixed: tuple[str, ...]
    draw: Draw


class _AdjointGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: _Step, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.step = step
        ctx.save_for_backward(*values)
        weights = dict(zip((*step.moved, *step.fixed), values, strict=True))
        loss, gradient = step.hvp.field.gradient(weights, step.moved, step.draw)
        ctx.mark_non_differentiable(loss)
        return loss, *gradient.values()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        step, (_, *vector) = ctx.step, cotangents
        weights = dict(zip((*step.moved, *step.fixed), ctx.saved_tensors, strict=True))
        product = step.hvp(weights, dict(zip(step.moved, vector, strict=True)), step.draw)
        return None, *(product[name] for name in weights)


def query_loss(field: GradientField, weights: Parameters, draw: Draw, term: int = 0) -> Tensor:
    """Compute a term, differentiable once in `weights`; keep its gradient, not its graph."""
    names = tuple(weights)
    return _QueryLoss.apply(field, term, names, draw, *weights.values())  # pyright: ignore


class _QueryLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        field: GradientField,
        term: int,
        names: tuple[str, ...],
        draw: Draw,
        *values: Tensor,
    ) -> Tensor:
        weights = dict(zip(names, values, strict=True))
        loss, gradient = field.gradient_of(term, weights, names, draw)
        ctx.save_for_backward(*gradient.values())
        return loss

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *cotangents: Tensor
    ) -> tuple[Tensor | None, ...]:
        (factor,) = cotangents
        return None, None, None, None, *(factor * gradient for gradient in ctx.saved_tensors)
