"""A generator's loss as a function of its weights: all that inner loops ask of a generator."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from metatrain.base.parameters import Parameters
from metatrain.generators import Draw, Generator

Precision = Literal["fp32", "bf16"]


class Loss:
    """The loss of `generator`, whose own weights are not looked at.

    Trees of weights may be shards of what a whole generator has, if whoever makes the loss also
    says what the gradient and the inner product of such trees are.

    Args:
        generator: what has the loss.
        precision: what layers compute in; trees are float32.
    """

    def __init__(self, generator: Generator, precision: Precision = "fp32") -> None:
        self.generator, self.precision = generator, precision

    def __call__(self, weights: Parameters, draw: Draw) -> Tensor:
        """The loss on `draw`, a scalar that can be differentiated in `weights`."""
        with self.computing(draw[0].device):
            return functional_call(self.generator, weights, draw)

    def computing(self, device: torch.device) -> AbstractContextManager[Any]:
        """Inside, layers on `device` compute in the loss's precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def gradient(
        self, weights: Parameters, names: tuple[str, ...], draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """The loss on `draw` and its gradient in the weights `names`, both as constants."""
        constants = {name: w.detach() for name, w in weights.items()}
        leaves = {name: constants[name].requires_grad_() for name in names}
        with torch.enable_grad():
            loss = self(constants, draw)
        gradient = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return loss.detach(), dict(zip(names, gradient, strict=True))

    def dot(self, a: Parameters, b: Parameters) -> Tensor:
        """The inner product of two trees of the same names, a scalar."""
        return dot(a, b)

    def norm(self, tree: Parameters) -> float:
        """The Euclidean length of all of `tree`."""
        return float(self.dot(tree, tree).sqrt())


def dot(a: Parameters, b: Parameters) -> Tensor:
    """The sum of the products of two trees' values, a scalar."""
    return torch.stack([(value * b[name]).sum() for name, value in a.items()]).sum()
