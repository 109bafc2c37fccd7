"""The support that a photograph gives of itself: its parts, and the same parts degraded further."""

from dataclasses import replace

import numpy as np
import torch

from metatrain.base.errors import UserError
from metatrain.data.config import DataConfig
from metatrain.data.degradations.degradation import LOW, Degradation, self_pair
from metatrain.data.degradations.kernel_files import checked_kernel
from metatrain.data.degradations.named import named_degradation
from metatrain.data.examples import Examples
from metatrain.data.photo import Photo
from metatrain.data.tasks.sections import DegradationsConfig
from metatrain.model.estimate import estimated
from metatrain.model.tiles import as_channels, colours_of, values_of

# Pixels of the low image in one support: more cost time, and teach little.
_SUPPORT_PIXELS = 2**17


def degradation_of(data: DataConfig, kernel: str | np.ndarray, photo: Photo) -> Degradation:
    """Return the degradation of a photograph, at the scale of the training.

    Args:
        data: of the training.
        kernel: as `Model.enlarge` takes it.
        photo: the image of low resolution, for an estimate.

    Raises:
        UserError: when the training had no scale, or the kernel cannot be used.
    """
    if not isinstance(data.tasks, DegradationsConfig):
        raise UserError(
            f"this model was trained on data.tasks.name={data.tasks.name}, which has no scale; "
            f"train one on data.tasks.name=degradations."
        )
    scale, subsampling = data.tasks.scale, data.tasks.subsampling[0]
    if isinstance(kernel, np.ndarray):
        return Degradation(scale, checked_kernel(kernel), subsampling)
    if kernel == "estimate":
        return estimated(photo, scale, subsampling)
    return named_degradation(kernel, scale, subsampling)


def support_of(
    photo: Photo, degradation: Degradation, *, channels: int, size: int, seed: int = 0
) -> Examples:
    """Make the support of a photograph: parts of it as targets, and each degraded further.

    Args:
        photo: the image of low resolution.
        degradation: from a part to its son.
        channels: those of the model, 1 or 3.
        size: side of the parts in pixels, a multiple of the scale.
        seed: decides on the parts, where the photograph is too large for all, and on noise.
    """
    stream = np.random.default_rng(seed)
    degradation = replace(degradation, levels=np.iinfo(photo.pixels.dtype).max)
    pixels, scale, margin = _at_least(photo.pixels, size), degradation.scale, degradation.margin
    tops, lefts = (_starts(side, size, scale) for side in pixels.shape[:2])
    places = [(top, left) for top in tops for left in lefts]
    chosen = stream.permutation(len(places))[: max(1, _SUPPORT_PIXELS // size**2)]
    pairs = []
    for top, left in (places[i] for i in sorted(chosen)):
        above, before = max(0, top - margin), max(0, left - margin)
        region = pixels[above : top + size + margin, before : left + size + margin]
        colours = colours_of(values_of(region), photo.has_alpha)
        image = as_channels(colours, channels).double().numpy()
        pairs.append(self_pair(image, top - above, left - before, size, degradation, stream))
    sons, parents = (
        torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*pairs, strict=True)
    )
    return Examples(parents, {LOW: sons})


def _starts(length: int, size: int, step: int) -> list[int]:
    """Return where parts of `size` begin that cover a length, but for less than `step`."""
    last = (length - size) // step * step
    return sorted({*range(0, last + 1, size), last})


def _at_least(pixels: np.ndarray, size: int) -> np.ndarray:
    """Mirror the edges of an image that is smaller than `size`."""
    missing = [(0, max(0, size - side)) for side in pixels.shape[:2]]
    return np.pad(pixels, [*missing, (0, 0)], mode="symmetric")
