"""Products of a field's transposed Jacobian with a vector, by three methods.

For an objective of one term the Jacobian is the Hessian, and they are Hessian-vector products. Each
method takes all weights and a vector on some of them (the moved ones), and returns the product in
all weights: J[moved, :]^T vector.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad
from torch.nn.attention import SDPBackend, sdpa_kernel
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.generators import Draw
from metatrain.learning.inner.gradient_field import GradientField


def plain_attention() -> AbstractContextManager[Any]:
    """Disable fused attention, which has no second derivative and cannot be stacked."""
    return sdpa_kernel(SDPBackend.MATH)


class HVP(ABC):
    """A method for products with the transposed Jacobian of a field.

    Args:
        field: the gradient field.
    """

    def __init__(self, field: GradientField) -> None:
        self.field = field

    @abstractmethod
    def __call__(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        """Compute J[moved, :]^T `vector` at `weights`, for the field on `draw`."""


class DoubleBackward(HVP):
    """The gradient of <field, vector> (Pearlmutter 1994); exact for any smooth generator."""

    @override
    def __call__(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        with torch.enable_grad(), plain_attention():
            _, gradient = self.field.differentiable(leaves, tuple(vector), draw)
        product = torch.autograd.grad(
            list(gradient.values()),
            list(leaves.values()),
            grad_outputs=list(vector.values()),
            materialize_grads=True,
        )
        return dict(zip(leaves, product, strict=True))


class Compiled(HVP):
    """Double backward, compiled into one graph for every inner step of every episode; exact.

    The first call takes minutes, and compares its product with `DoubleBackward`'s: compilers err.

    Raises:
        UserError: when the first product is wrong by more than `TOLERANCE`.
    """

    TOLERANCE = 1e-3

    def __init__(self, field: GradientField) -> None:
        super().__init__(field)
        self._compiled: Callable[..., Parameters] = torch.compile(self._product, dynamic=False)
        self._checked = False

    @override
    def __call__(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        constants = {name: w.detach() for name, w in weights.items()}
        with torch.no_grad(), plain_attention():
            product = self._compiled(constants, vector, draw)
        if not self._checked:
            self._checked = self._agrees(product, DoubleBackward(self.field)(weights, vector, draw))
        return product

    def _agrees(self, product: Parameters, exact: Parameters) -> bool:
        """Compare the products: False where both are 0, a UserError where they differ."""
        length = self.field.norm(exact)
        if not length:
            return False  # behind layers that start at 0 every product is 0 at first
        error = self.field.norm({name: product[name] - e for name, e in exact.items()}) / length
        # Written so that a product that is not a number fails too.
        if not error <= self.TOLERANCE:
            raise UserError(
                f"the compiled Hessian-vector product is wrong by {error:.1g} of its length, an "
                f"error of torch.compile with this generator; use meta.hvp=double_backward."
            )
        return True

    def _product(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        def slope(at: Parameters) -> Tensor:
            gradient: Parameters = {}
            for term, moved in self.field.theta.by_term(vector):
                slopes = grad(partial(self.field.loss, term=term))(at, draw)
                gradient |= {name: slopes[name] for name in moved}
            return torch.stack([(gradient[n] * v).sum() for n, v in vector.items()]).sum()

        return grad(slope)(weights)


class FiniteDifference(HVP):
    """Central differences of gradients, (g(w + e v) - g(w - e v)) / 2e: approximate.

    For generators that cannot be differentiated twice. A product costs two gradients
    and no second graph. It is J v, which equals J^T v only where the Jacobian is symmetric: for
    one term.

    Attributes:
        error: relative error of the last product that was checked, by Richardson's estimate (the
            difference to the product with twice the step); 0 before the first.
    """

    # Relative to the length of all weights. Measured in float32 on the U-Net and the DiT, with
    # random and trained weights: the error exceeds 1e-3 by curvature at longer steps, and by
    # rounding at shorter ones.
    STEP = 1e-4
    CHECK_EVERY = 100

    def __init__(self, field: GradientField) -> None:
        super().__init__(field)
        self.error = 0.0
        self._products = 0

    @override
    def __call__(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        step = self._step(weights, vector)
        if step == 0.0:
            return {name: torch.zeros_like(w) for name, w in weights.items()}
        product = self._central(weights, vector, draw, step)
        if self._products % self.CHECK_EVERY == 0:
            coarse = self._central(weights, vector, draw, 2 * step)
            difference = self.field.norm({n: coarse[n] - p for n, p in product.items()})
            length = self.field.norm(product)
            self.error = difference / 3 / length if length else self.error
        self._products += 1
        return product

    def _step(self, weights: Parameters, vector: Parameters) -> float:
        length = self.field.norm(vector)
        # The length of all weights, not of the moved ones: a context vector starts at 0.
        return self.STEP * self.field.norm(weights) / length if length else 0.0

    def _central(
        self, weights: Parameters, vector: Parameters, draw: Draw, step: float
    ) -> Parameters:
        ahead = self._gradient(weights, vector, draw, step)
        behind = self._gradient(weights, vector, draw, -step)
        return {name: (ahead[name] - behind[name]) / (2 * step) for name in weights}

    def _gradient(
        self, weights: Parameters, vector: Parameters, draw: Draw, step: float
    ) -> Parameters:
        moved = {name: weights[name] + step * v for name, v in vector.items()}
        return self.field.gradient(weights | moved, tuple(weights), draw)[1]


HVPS: dict[str, type[HVP]] = {
    "double_backward": DoubleBackward,
    "compiled": Compiled,
    "difference": FiniteDifference,
}
