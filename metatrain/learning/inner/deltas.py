"""Changes of the parameters of frozen layers, computed beside them."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from metatrain.generators.networks.layers import AdapterTerm

# The name of the change within its layer.
DELTA = "delta"


class Delta(AdapterTerm):
    """A change D of a layer's parameters W, of whose output f(x, W + D) it is the term f(x, D).

    Linear layers, convolutions and norms are linear in their parameters, so that nothing is lost:
    the frozen W needs neither a gradient nor a copy, and tasks with other D share one pass through
    it. At the start D = 0.

    Args:
        layer: linear in its parameters.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        # In float32, whatever the precision of frozen parameters is.
        zeros = {id(p): nn.Parameter(torch.zeros(p.shape)) for p in layer.parameters()}
        self.layer = copy.deepcopy(layer, zeros)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the term of what the layer computes from `x`."""
        return self.layer(x.to(next(self.layer.parameters()).dtype))


def add_deltas(network: nn.Module, names: Iterable[str]) -> None:
    """Add a change beside each of the named layers that has parameters."""
    for name in names:
        layer = network.get_submodule(name)
        if any(True for _ in layer.parameters()):
            layer.add_module(DELTA, Delta(layer))
            layer.register_forward_hook(_with_delta)


def deltas_of(network: nn.Module) -> dict[str, nn.Module]:
    """Return layers that have changes for parameters, by the names of the layers they change."""
    return {
        name.removesuffix(f".{DELTA}"): module.layer
        for name, module in network.named_modules()
        if isinstance(module, Delta)
    }


def _with_delta(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    delta = layer.delta
    return output + delta(inputs[0]).to(output.dtype) if delta.enabled else output
