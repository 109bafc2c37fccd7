"""Hessian-vector products of a generator's loss: three ways to one number.

Each takes all weights, a vector on some of them (the moved ones), and returns the product in all
weights: H[:, moved] vector.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.func import grad
from torch.nn.attention import SDPBackend, sdpa_kernel

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.generators import Draw
from metatrain.learning.inner.loss import Loss


def plain_attention() -> AbstractContextManager[Any]:
    """Fused attention has no second derivative and cannot be stacked; here it is not used."""
    return sdpa_kernel(SDPBackend.MATH)


class HVP(ABC):
    """A way to Hessian-vector products.

    Args:
        loss: of weights and a draw, a scalar.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    @abstractmethod
    def __call__(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        """H[:, moved] `vector` at `weights`, for the loss on `draw`."""


class DoubleBackward(HVP):
    """The gradient of <gradient, vector> (Pearlmutter 1994); exact, for any smooth generator."""

    def __call__(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        """See `HVP.__call__`."""
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        with torch.enable_grad(), plain_attention():
            moved = [leaves[name] for name in vector]
            loss = self.loss(leaves, draw)
            gradient = torch.autograd.grad(loss, moved, create_graph=True, materialize_grads=True)
        product = torch.autograd.grad(
            gradient,
            list(leaves.values()),
            grad_outputs=list(vector.values()),
            materialize_grads=True,
        )
        return dict(zip(leaves, product, strict=True))


class Compiled(HVP):
    """The same, compiled into one graph for every inner step of every episode; exact.

    The first call takes minutes, and compares itself with `DoubleBackward`: compilers err.

    Raises:
        UserError: when the first product is wrong by more than `TOLERANCE`.
    """

    TOLERANCE = 1e-3

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss)
        self._compiled: Callable[..., Parameters] = torch.compile(self._product, dynamic=False)
        self._checked = False

    def __call__(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        """See `HVP.__call__`."""
        constants = {name: w.detach() for name, w in weights.items()}
        with torch.no_grad(), plain_attention():
            product = self._compiled(constants, vector, draw)
        if not self._checked:
            self._checked = self._agrees(product, DoubleBackward(self.loss)(weights, vector, draw))
        return product

    def _agrees(self, product: Parameters, exact: Parameters) -> bool:
        """Whether there was anything to compare; raises where it differs."""
        length = self.loss.norm(exact)
        if not length:
            return False  # behind layers that start at 0 every product is 0 at first
        error = self.loss.norm({name: product[name] - e for name, e in exact.items()}) / length
        # Written so that a product that is not a number fails too.
        if not error <= self.TOLERANCE:
            raise UserError(
                f"the compiled Hessian-vector product is wrong by {error:.1g} of its length, an "
                f"error of torch.compile with this generator; use meta.hvp=double_backward."
            )
        return True

    def _product(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        def slope(at: Parameters) -> Tensor:
            gradient = grad(self.loss)(at, draw)
            return torch.stack([(gradient[n] * v).sum() for n, v in vector.items()]).sum()

        return grad(slope)(weights)


class Difference(HVP):
    """Central differences of gradients: (g(w + e v) - g(w - e v)) / 2e. Not exact.

    For what cannot be differentiated twice. Needs two gradients and no second graph.

    Attributes:
        error: of the last product that was checked, relative, as the difference to the product
            with twice the step tells (Richardson's estimate); 0 before the first.
    """

    # Of the length of all weights. Measured in float32 on the U-Net and the DiT, with random and
    # with trained weights: longer, and curvature costs more than 1e-3; shorter, and rounding does.
    STEP = 1e-4
    CHECK_EVERY = 100

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss)
        self.error = 0.0
        self._products = 0

    def __call__(self, weights: Parameters, vector: Parameters, draw: Draw) -> Parameters:
        """See `HVP.__call__`."""
        step = self._step(weights, vector)
        if step == 0.0:
            return {name: torch.zeros_like(w) for name, w in weights.items()}
        product = self._central(weights, vector, draw, step)
        if self._products % self.CHECK_EVERY == 0:
            coarse = self._central(weights, vector, draw, 2 * step)
            difference = self.loss.norm({n: coarse[n] - p for n, p in product.items()})
            length = self.loss.norm(product)
            self.error = difference / 3 / length if length else self.error
        self._products += 1
        return product

    def _step(self, weights: Parameters, vector: Parameters) -> float:
        length = self.loss.norm(vector)
        # Not of the moved ones alone: a context vector starts at 0.
        return self.STEP * self.loss.norm(weights) / length if length else 0.0

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
        return self.loss.gradient(weights | moved, tuple(weights), draw)[1]


HVPS: dict[str, type[HVP]] = {
    "double_backward": DoubleBackward,
    "compiled": Compiled,
    "difference": Difference,
}
