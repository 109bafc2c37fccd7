"""Photographs of any size through a network, in tiles, and their pixels as its values."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.data.photo import Photo

# Side of a tile in pixels.
_TILE = 192
# ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


@torch.no_grad()
def in_tiles(
    photo: Photo,
    function: Callable[[Tensor], Tensor],
    *,
    reach: int,
    label: str,
    scale: int = 1,
    device: torch.device,
) -> Photo:
    """Map a photograph in tiles that overlap.

    Args:
        photo: of any size.
        function: maps values [C, h, w] in [-1, 1] to [C, scale * h, scale * w].
        reach: the pixels around a place that decide about its result.
        label: the name of the work, for its progress.
        scale: the side of the result divided by that of the photograph.
        device: where `function` computes.

    Raises:
        UserError: when a value is not finite.
    """
    height, width, count = photo.pixels.shape
    result = np.empty((scale * height, scale * width, count), photo.pixels.dtype)
    tiles = list(_tiles(height, width, reach))
    progress = Progress(label, len(tiles))
    for done, (inner, outer) in enumerate(tiles):
        progress.update(done)
        values = function(values_of(photo.pixels[outer]).to(device))
        if not values.isfinite().all():
            raise UserError(
                "the network's values are not finite, so it has diverged; give a lower learning "
                "rate or fewer steps."
            )
        rows, columns = (
            slice(scale * (a.start - b.start), scale * (a.stop - b.start))
            for a, b in zip(inner, outer, strict=True)
        )
        place = tuple(slice(scale * part.start, scale * part.stop) for part in inner)
        result[place] = _pixels(values[:, rows, columns], result.dtype)
    progress.close()
    return Photo(result, photo.format, photo.profile)


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


def corrected(values: Tensor, correction: Tensor, has_alpha: bool) -> Tensor:
    """Add a model's correction to the colours of an image [C, H, W], in place.

    A correction of one channel is that of the luma, and goes to all colours; of three, grey takes
    the mean.
    """
    colours = colours_of(values, has_alpha)
    if len(correction) > len(colours):
        correction = correction.mean(dim=0, keepdim=True)
    colours += correction
    return values
