"""Enlarging a photograph of any size, in tiles."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.data.photo import Photo
from metatrain.generators import Generator
from metatrain.generators.networks.residual import EnlargingNetwork, enlarged_bicubic

# Side of a tile of the low image, in pixels.
_TILE = 192
# ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


def enlarging_network(generator: Generator) -> EnlargingNetwork:
    """Return the network of a generator that enlarges.

    Raises:
        UserError: when it does not.
    """
    if not isinstance(generator.network, EnlargingNetwork):
        raise UserError(
            "this model was not trained to enlarge; train one with objective.name=super_resolution."
        )
    return generator.network


@torch.no_grad()
def enlarged(network: EnlargingNetwork, photo: Photo, scale: int, channels: int) -> Photo:
    """Enlarge a photograph in tiles, whose overlap is as wide as the network sees.

    Alpha is enlarged bicubically. Where the network is of other channels than the photograph, its
    correction of the luma goes to all channels.

    Args:
        network: enlarges images of `channels`.
        photo: of any size.
        scale: the side of the result divided by that of the photograph.
        channels: of the network, 1 or 3.
    """
    height, width, count = photo.pixels.shape
    result = np.empty((scale * height, scale * width, count), photo.pixels.dtype)
    device = next(network.parameters()).device
    tiles = list(_tiles(height, width, network.reach))
    progress = Progress("enlarging", len(tiles))
    for done, (inner, outer) in enumerate(tiles):
        progress.update(done)
        values = values_of(photo.pixels[outer]).to(device)
        large = _enlarged(network, values, scale, channels, photo.has_alpha)
        rows, columns = (
            slice(scale * (a.start - b.start), scale * (a.stop - b.start))
            for a, b in zip(inner, outer, strict=True)
        )
        place = tuple(slice(scale * part.start, scale * part.stop) for part in inner)
        result[place] = _pixels(large[:, rows, columns], result.dtype)
    progress.close()
    return Photo(result, photo.format, photo.profile)


def _enlarged(
    network: EnlargingNetwork, values: Tensor, scale: int, channels: int, has_alpha: bool
) -> Tensor:
    coarse, colours = enlarged_bicubic(values, scale), colours_of(values, has_alpha)
    low = as_channels(colours, channels)
    residual = network.enlarge(low[None], scale)[0] - enlarged_bicubic(low, scale)
    if len(residual) > len(colours):
        residual = residual.mean(dim=0, keepdim=True)
    coarse[: len(colours)] += residual
    return coarse


def _tiles(
    height: int, width: int, overlap: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Yield the rows and columns of each tile, without and with its overlap."""
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            bottom, right = min(top + _TILE, height), min(left + _TILE, width)
            outer = (
                slice(max(0, top - overlap), min(bottom + overlap, height)),
                slice(max(0, left - overlap), min(right + overlap, width)),
            )
            yield (slice(top, bottom), slice(left, right)), outer


def values_of(pixels: np.ndarray) -> Tensor:
    """Convert [H, W, C] of whole numbers to [C, H, W] in [-1, 1]."""
    scaled = pixels.transpose(2, 0, 1) / np.float32(np.iinfo(pixels.dtype).max / 2) - 1
    return torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.float32))


def _pixels(values: Tensor, dtype: np.dtype) -> np.ndarray:
    """Convert [C, H, W] in [-1, 1] to [H, W, C] of whole numbers."""
    scaled = (values.clamp(-1, 1).double() + 1) * (np.iinfo(dtype).max / 2)
    return scaled.round().permute(1, 2, 0).cpu().numpy().astype(dtype)


def colours_of(values: Tensor, has_alpha: bool) -> Tensor:
    """Return the channels [C, H, W] of an image without its alpha."""
    return values[:-1] if has_alpha else values


def as_channels(colours: Tensor, channels: int) -> Tensor:
    """Convert grey or RGB [C, H, W] to the channels of a model, 1 or 3."""
    if len(colours) == channels:
        return colours
    if channels == 3:
        return colours.expand(3, -1, -1)
    return torch.einsum("c,chw->hw", colours.new_tensor(_LUMA), colours)[None]
