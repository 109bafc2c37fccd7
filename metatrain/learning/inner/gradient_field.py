"""The gradient field of an objective: all that inner loops need of a generator."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from metatrain.base.parameters import Parameters
from metatrain.generators import Draw
from metatrain.learning.inner.config import Precision
from metatrain.learning.inner.theta import RULE, Theta


class GradientField:
    """The terms of an objective as functions of weights, and the union of their gradients.

    The gradient of a batch is, for every name, the gradient of the term that moves it. With one
    term it is the gradient of a loss; with several it is the field of a game, whose Jacobian is
    not symmetric.

    Trees of weights may be shards of a generator's, if a subclass defines the gradient and the
    inner product of such trees.

    Args:
        theta: the owner of the objective; its weights are not read.
        precision: of the layers' arithmetic; trees are float32.
    """

    def __init__(self, theta: Theta, precision: Precision = "fp32") -> None:
        self.theta, self.precision = theta, precision

    def loss(self, weights: Parameters, draw: Draw, term: int = 0) -> Tensor:
        """Compute one term at `weights`, a scalar that can be differentiated in them."""
        generator = {name: w for name, w in weights.items() if not name.startswith(RULE)}
        with self.computing(draw[0].device):
            return functional_call(self.theta.generator, generator, draw, {"term": term})

    def computing(self, device: torch.device) -> AbstractContextManager[Any]:
        """Let layers on `device` compute in the field's precision inside the context."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def differentiable(
        self, weights: Parameters, names: tuple[str, ...], draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """Compute the gradient in `names` with its graph, and the sum of the terms, detached."""
        # Views, or the gradient would pass through players that moved before and depend on these.
        weights = weights | {name: weights[name].view_as(weights[name]) for name in names}
        gradient, losses = {}, []
        for term, moved in self.theta.by_term(names):
            loss = self.loss(weights, draw, term)
            values = [weights[name] for name in moved]
            slopes = torch.autograd.grad(loss, values, create_graph=True, materialize_grads=True)
            gradient |= zip(moved, slopes, strict=True)
            losses.append(loss.detach())
        return total(losses), {name: gradient[name] for name in names}

    def gradient(
        self, weights: Parameters, names: tuple[str, ...], draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """Compute the gradient in `names` and the sum of the terms, both as constants."""
        gradient, losses = {}, []
        for term, moved in self.theta.by_term(names):
            loss, slopes = self.gradient_of(term, weights, moved, draw)
            gradient |= slopes
            losses.append(loss)
        return total(losses), {name: gradient[name] for name in names}

    def gradient_of(
        self, term: int, weights: Parameters, names: tuple[str, ...], draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """Compute one term and its gradient in any `names`, both as constants."""
        constants = {name: w.detach() for name, w in weights.items()}
        leaves = {name: constants[name].requires_grad_() for name in names}
        with torch.enable_grad():
            loss = self.loss(constants, draw, term)
        gradient = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return loss.detach(), dict(zip(names, gradient, strict=True))

    def dot(self, a: Parameters, b: Parameters) -> Tensor:
        """Compute the inner product of two trees of the same names, a scalar."""
        return dot(a, b)

    def norm(self, tree: Parameters) -> float:
        """Compute the Euclidean length of all of `tree`."""
        return float(self.dot(tree, tree).sqrt())


def dot(a: Parameters, b: Parameters) -> Tensor:
    """Sum the products of two trees' values, a scalar."""
    return torch.stack([(value * b[name]).sum() for name, value in a.items()]).sum()


def total(losses: list[Tensor]) -> Tensor:
    """Sum the terms; a single one is left as it is."""
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
