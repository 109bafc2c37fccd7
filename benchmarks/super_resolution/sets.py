"""Sets of images by folder: the truth beside its inputs, or degraded here."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metatrain.base.errors import UserError
from metatrain.data.degradations.degradation import Degradation
from metatrain.data.photo import read_photo

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Pair:
    """An image of low resolution, and its truth.

    Attributes:
        name: of its file.
        low: uint8 [h, w, 3].
        high: uint8 [scale * h, scale * w, 3].
    """

    name: str
    low: np.ndarray
    high: np.ndarray


def read_set(truth: Path, inputs: Path | None, degradation: Degradation) -> list[Pair]:
    """Read the images of a folder, with those of `inputs` or degraded by `degradation`.

    An input has the name of its truth, but for _GT.

    Raises:
        UserError: when the folder is empty, or an input is missing or of another size.
    """
    files = sorted(file for file in truth.iterdir() if file.suffix.lower() in _ENDINGS)
    if not files:
        raise UserError(f"{truth} holds no images; give a folder of true images.")
    return [_pair(file, inputs, degradation) for file in files]


def degraded(name: str, high: np.ndarray, degradation: Degradation) -> Pair:
    """Degrade a true image [H, W, 3] of uint8, cut to multiples of the scale."""
    height, width = (side // degradation.scale * degradation.scale for side in high.shape[:2])
    high = high[:height, :width]
    low = degradation(high.transpose(2, 0, 1) / 127.5 - 1, np.random.default_rng(0))
    return Pair(name, ((low.transpose(1, 2, 0) + 1) * 127.5).round().astype(np.uint8), high)


def _pair(file: Path, inputs: Path | None, degradation: Degradation) -> Pair:
    name, scale = file.stem.removesuffix("_GT"), degradation.scale
    high = rgb(file.read_bytes())
    if inputs is None:
        return degraded(name, high, degradation)
    candidates = [inputs / f"{name}{ending}" for ending in _ENDINGS]
    existing = [candidate for candidate in candidates if candidate.exists()]
    if not existing:
        raise UserError(f"{inputs} holds no {name}{file.suffix}, the input of {file}; add it.")
    low = rgb(existing[0].read_bytes())
    if tuple(scale * side for side in low.shape[:2]) != high.shape[:2]:
        raise UserError(f"{existing[0]} is not {file} divided by {scale}; give its input.")
    return Pair(name, low, high)


def rgb(data: bytes) -> np.ndarray:
    """Decode a photograph to its colours [H, W, 3] of uint8."""
    pixels = read_photo(data).pixels
    pixels = pixels if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)
    return pixels[..., :3].astype(np.uint8)
