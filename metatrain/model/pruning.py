"""Pruned models: the same architecture with a narrower network, of the channels that weigh most."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.config import with_values
from metatrain.generators.networks.wiring import FREQUENCIES, Streams, Wiring
from metatrain.learning.inner.theta import RULE
from metatrain.model.build import build_theta
from metatrain.model.model import Model

# Widths are multiples of it, as the U-Net's are.
_MULTIPLE = 8
_NETWORK = "network."


def pruned(model: Model, share: float) -> Model:
    """Remove a share of the channels of every stream of a model's network.

    What remains is a model of a smaller `generator.width`, which loads, adapts and trains as any.
    Its weights are those of the kept channels, the ones of the largest norm. Learned inner rates
    begin anew. It has to be trained further: what the removed channels did is missing.

    Args:
        model: a model that has not adapted.
        share: in (0, 1); the width is rounded to a multiple of 8.

    Raises:
        UserError: when the model has adapted, its network cannot be pruned, or no width is left.
    """
    if model.support is not None:
        raise UserError(
            "the model has been adapted, and a pruned one has to be trained further; prune the "
            "model that it came from."
        )
    wiring = model.generator().network.wiring()
    if wiring is None:
        raise UserError(
            f"the model's generator is {model.config.generator.name}, which cannot be pruned; "
            f"only unet can."
        )
    width = _narrower(model.config.generator.width, share)
    config = with_values(model.config, {"generator.width": width})
    narrow = build_theta(config).copy()
    weights = _weights(model.parameters, wiring)
    fewer = _sizes({name: narrow[_NETWORK + name] for name in weights}, wiring)
    kept = _kept(weights, fewer, wiring)
    cut = {_NETWORK + name: _cut(w, wiring.axes[name], kept) for name, w in weights.items()}
    rates = {name: value for name, value in narrow.items() if name.startswith(RULE)}
    return replace(model, config=config, parameters=rates | cut, calibration=None)


def _narrower(width: int, share: float) -> int:
    """Return the width that is left of `width`."""
    if width == _MULTIPLE:
        raise UserError(f"the model has a width of {width}, and none is smaller; do not prune it.")
    narrow = round(width * (1 - share) / _MULTIPLE) * _MULTIPLE if 0 < share < 1 else 0
    if not 0 < narrow < width:
        raise UserError(
            f"the share to prune is {share:g}, and of a width of {width} shares from "
            f"{_MULTIPLE / width:g} to {1 - _MULTIPLE / width:g} can be."
        )
    return narrow


def _weights(parameters: Parameters, wiring: Wiring) -> Parameters:
    """Return the network's weights by their names in it.

    Raises:
        UserError: when the network has a weight that its wiring does not know.
    """
    weights = {n.removeprefix(_NETWORK): p for n, p in parameters.items() if not n.startswith(RULE)}
    if further := next((name for name in weights if name not in wiring.axes), None):
        raise UserError(
            f"the model has {further}, which belongs to conditions beside the support "
            f"(generator.conditions) or to an added scope (inner.scope.name=lora, context); only "
            f"models without them are pruned."
        )
    return weights


class _Kept(NamedTuple):
    """The channels of a stream that are kept, of how many, and a factor of what writes them."""

    channels: Tensor
    size: int
    factor: float = 1.0


def _kept(weights: Parameters, sizes: Mapping[str, int], wiring: Wiring) -> dict[str, _Kept]:
    """Choose so many channels of every stream as `sizes` says."""
    kept = {}
    for stream, norm in _norms(weights, wiring).items():
        size, narrow = len(norm), sizes[stream]
        if stream == FREQUENCIES:
            kept[stream] = _Kept(_same_frequencies(size, narrow), size)
            continue
        # Dot products are divided by the root of their length, which is another one now.
        factor = (narrow / size) ** 0.25 if stream in wiring.products else 1.0
        kept[stream] = _Kept(_largest(norm, narrow, wiring.heads.get(stream, 1)), size, factor)
    return kept


def _norms(weights: Parameters, wiring: Wiring) -> dict[str, Tensor]:
    """Return how much each channel of every stream weighs.

    The sum over all weights of its squared norm there, as a multiple of the channels' mean, so that
    all layers count alike.
    """
    norms = {stream: torch.zeros(size) for stream, size in _sizes(weights, wiring).items()}
    for name, weight in weights.items():
        for axis, streams in enumerate(wiring.axes[name]):
            if not streams:
                continue
            squares = weight.movedim(axis, 0).reshape(weight.shape[axis], -1).square().sum(dim=1)
            squares = squares / squares.mean().clamp(min=1e-30)
            lengths = [len(norms[stream]) for stream in streams]
            for stream, part in zip(streams, squares.split(lengths), strict=True):
                norms[stream] += part
    return norms


def _sizes(weights: Parameters, wiring: Wiring) -> dict[str, int]:
    """Return the number of channels of every stream."""
    return {
        streams[0]: weight.shape[axis] // len(streams)
        for name, weight in weights.items()
        for axis, streams in enumerate(wiring.axes[name])
        if len(set(streams)) == 1
    }


def _largest(norm: Tensor, count: int, parts: int) -> Tensor:
    """Return the `count` channels of the largest norm, equally many of each part, in order."""
    best = norm.view(parts, -1).topk(count // parts, dim=1).indices.sort(dim=1).values
    return (best + len(norm) // parts * torch.arange(parts)[:, None]).flatten()


def _same_frequencies(size: int, count: int) -> Tensor:
    """Return the sines and cosines, of `size`, of the frequencies that fewer of them have.

    The nearest, where there are not the same.
    """
    half, fewer = size // 2, count // 2
    sines = (torch.arange(fewer) * half / fewer).round().long()
    return torch.cat([sines, half + sines])


def _cut(weight: Tensor, axes: Sequence[Streams], kept: Mapping[str, _Kept]) -> Tensor:
    """Return the part of a weight that belongs to the channels that are kept."""
    for axis, streams in enumerate(axes):
        if streams:
            parts = weight.split([kept[stream].size for stream in streams], dim=axis)
            chosen = [
                part.index_select(axis, kept[stream].channels) * kept[stream].factor
                for stream, part in zip(streams, parts, strict=True)
            ]
            weight = torch.cat(chosen, dim=axis)
    return weight
