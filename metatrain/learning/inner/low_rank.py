"""Low-rank terms beside layers: LoRA, and mixtures of several."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from metatrain.generators.networks.layers import AdapterTerm

Layer = nn.Linear | nn.Conv2d

# The name of the term within its layer.
TERM = "lora"


class LowRank(AdapterTerm):
    """A term up(down(x)) beside a layer (Hu et al. 2022, "LoRA", eq. 3, alpha = r).

    It is computed beside the layer, never added to its weight: a frozen weight then needs neither a
    gradient nor a copy, and tasks with other terms share one pass through it. At the start up = 0.

    Args:
        layer: linear or convolutional.
        ranks: of the parts of the term, usually one; each is at most that of the layer's weight.
        scale: of the term.
    """

    def __init__(self, layer: Layer, ranks: Sequence[int], scale: float = 1.0) -> None:
        super().__init__()
        rows, self.kernel = layer.weight.shape[0], tuple(layer.weight.shape[1:])
        columns = math.prod(self.kernel)
        self.ranks, self.scale = [min(rank, rows, columns) for rank in ranks], scale
        # In float32, whatever the precision of a frozen weight is.
        self.up = nn.Parameter(torch.zeros(rows, sum(self.ranks)))
        self.down = nn.Parameter(torch.randn(sum(self.ranks), columns) / math.sqrt(columns))

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return `down` [r, columns] and `up` [rows, r], whose product is the term."""
        return self.down, self.scale * self.up

    def forward(self, x: Tensor, layer: Layer) -> Tensor:
        """Compute the term of what the layer computes from `x`."""
        (down, up), x = self.factors(), x.to(self.down.dtype)
        if isinstance(layer, nn.Linear):
            return F.linear(F.linear(x, down), up)
        inside = layer._conv_forward(x, down.unflatten(1, self.kernel), None)
        return F.conv2d(inside, up[:, :, None, None])

    def weight(self) -> Tensor:
        """Return the term as a weight like the layer's, to merge."""
        down, up = self.factors()
        return (up @ down).unflatten(1, self.kernel)


class MixtureWeights(nn.Module):
    """The weights alpha [M] of the members of a mixture, at first those of their mean."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((members,), 1 / members))


class LowRankMixture(LowRank):
    """A weighted sum of terms, sum_i alpha_i up_i(down_i(x)), with weights that layers share.

    Args:
        layer: linear or convolutional.
        ranks: of the members.
        weights: of the members, in all layers.
    """

    def __init__(self, layer: Layer, ranks: Sequence[int], weights: MixtureWeights) -> None:
        super().__init__(layer, ranks)
        # In a tuple, or torch would take the one alpha for a parameter of every term.
        self._shared = (weights,)

    @override
    def factors(self) -> tuple[Tensor, Tensor]:
        alpha = self._shared[0].alpha
        each = [alpha[i].expand(rank) for i, rank in enumerate(self.ranks)]
        return self.down, self.up * torch.cat(each)


def add_low_rank(
    network: nn.Module, term: Callable[[Layer], LowRank], targets: Iterable[str]
) -> list[str]:
    """Add a term beside every layer of `network`, or beside those that `targets` name.

    Args:
        network: the network.
        term: makes the term of a layer.
        targets: names of layers, whole or as they end after a dot; none for all layers.

    Returns:
        The targets that name no layer.
    """
    targets, known = tuple(targets), set[str]()
    for name, layer in list(layers_of(network)):
        fitting = [target for target in targets if f".{name}".endswith(f".{target}")]
        known.update(fitting)
        if fitting or not targets:
            layer.add_module(TERM, term(layer))
            layer.register_forward_hook(_with_term)
    return [target for target in targets if target not in known]


def low_rank_terms(network: nn.Module) -> dict[str, LowRank]:
    """Return the terms of a network by the names of their layers."""
    return {
        name.removesuffix(f".{TERM}"): module
        for name, module in network.named_modules()
        if isinstance(module, LowRank)
    }


def layers_of(network: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Yield the layers that can have a term, with their names."""
    for name, module in network.named_modules():
        # A grouped convolution is no product of two matrices.
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            yield name, module


def _with_term(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    term = layer.lora
    return output + term(inputs[0], layer).to(output.dtype) if term.enabled else output
