"""Low-rank terms beside layers: LoRA."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The name of the term within its layer.
_NAME = "lora"


class LowRank(nn.Module):
    """A term up(down(x)) beside a layer (Hu et al. 2022, "LoRA", eq. 3, alpha = r).

    It is computed beside the layer, never added to its weight: a frozen weight then needs neither a
    gradient nor a copy, and tasks with other terms share one pass through it. At the start up = 0.

    Args:
        layer: linear or convolutional.
        rank: the most that the term's rank may be.
        scale: of the term.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, scale: float) -> None:
        super().__init__()
        rows, self.kernel = layer.weight.shape[0], tuple(layer.weight.shape[1:])
        columns = math.prod(self.kernel)
        rank, self.scale = min(rank, rows, columns), scale
        # In float32, whatever the precision of a frozen weight is.
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.down = nn.Parameter(torch.randn(rank, columns) / math.sqrt(columns))

    def forward(self, x: Tensor, layer: nn.Linear | nn.Conv2d) -> Tensor:
        """Compute the term of what the layer computes from `x`."""
        x = x.to(self.down.dtype)
        if isinstance(layer, nn.Linear):
            return self.scale * F.linear(F.linear(x, self.down), self.up)
        inside = layer._conv_forward(x, self.down.unflatten(1, self.kernel), None)
        return self.scale * F.conv2d(inside, self.up[:, :, None, None])

    def weight(self) -> Tensor:
        """Return the term as a weight like the layer's, to merge."""
        return self.scale * (self.up @ self.down).unflatten(1, self.kernel)


def add_low_rank(network: nn.Module, rank: int, scale: float, targets: Iterable[str]) -> list[str]:
    """Add a term beside every layer of `network`, or beside those that `targets` name.

    Args:
        network: the network.
        rank: of the terms.
        scale: of the terms.
        targets: names of layers, whole or as they end after a dot; none for all layers.

    Returns:
        The targets that name no layer.
    """
    targets, known = tuple(targets), set[str]()
    for name, layer in list(_layers(network)):
        fitting = [target for target in targets if f".{name}".endswith(f".{target}")]
        known.update(fitting)
        if fitting or not targets:
            layer.add_module(_NAME, LowRank(layer, rank, scale))
            layer.register_forward_hook(_with_term)
    return [target for target in targets if target not in known]


def low_rank_terms(network: nn.Module) -> dict[str, LowRank]:
    """Return the terms of a network by the names of their layers."""
    return {
        name.removesuffix(f".{_NAME}"): module
        for name, module in network.named_modules()
        if isinstance(module, LowRank)
    }


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    for name, module in network.named_modules():
        # A grouped convolution is no product of two matrices.
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            yield name, module


def _with_term(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + layer.lora(inputs[0], layer).to(output.dtype)
