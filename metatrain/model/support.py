"""Supports from what a caller has: folders, files, PIL images, arrays and tensors."""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.data.config import DataConfig
from metatrain.data.decoding.levels import ChooseLevels
from metatrain.data.decoding.orientation import turn_of
from metatrain.data.examples import Examples
from metatrain.data.images import BadImage, normalise, to_array
from metatrain.data.pictures import from_uint8
from metatrain.data.task_levels import levels_of

_DTYPES = ("uint8", "float16", "bfloat16", "float32", "float64")

# One image: a file, or pixels: [H, W] or [H, W, C] of an array, [H, W] or [C, H, W] of a tensor.
Image = str | Path | Pillow.Image | np.ndarray | Tensor
# A folder, several images, or an array or tensor with one dimension more for the image.
Images = Examples | Image | Sequence[Image]


def as_support(
    images: Images, config: DataConfig, value_range: tuple[float, float] | None = None
) -> Examples:
    """Convert images to a support.

    Files and PIL images are made upright, cropped to the central square, resampled and converted
    to the model's channels, as they are when a data set is packed. Pixels of arrays and tensors
    must have the model's size and channels: uint8 from 0 to 255, or floats.

    Args:
        images: a folder, whose files are taken in the order of their names; one image, or several;
            or `Examples`, which keep their conditions.
        config: the size and channels that the model takes.
        value_range: lowest and highest value of floats; by default (-1, 1), which at least one
            negative value has to confirm.

    Raises:
        UserError: when there is no image, or one cannot be used.
    """
    if isinstance(images, Examples):
        _check_shape(images.target, config, "the support")
        return images
    named = _named_images(images)
    if not named:
        raise UserError("there are no images to adapt to; give at least one.")
    files = [image for _, image in named if isinstance(image, str | Path | Pillow.Image)]
    levels = levels_of([partial(_encoded, image) for image in files])
    pixels = [(name, _pixels(image, config, levels, name)) for name, image in named]
    low, high = _value_range(pixels, value_range)
    return Examples(torch.stack([_scaled(image, low, high) for _, image in pixels]))


def _named_images(images: Image | Sequence[Image]) -> list[tuple[str, Image]]:
    """List the images, each with the name that a message gives it."""
    if isinstance(images, str | Path):
        return [(str(file), file) for file in _files(Path(images))]
    if isinstance(images, np.ndarray | Tensor):
        images = list(images) if images.ndim == 4 else [images]
    elif isinstance(images, Pillow.Image):
        images = [images]
    return [
        (str(image) if isinstance(image, str | Path) else f"image {number}", image)
        for number, image in enumerate(images, start=1)
    ]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"there is no folder {path}; give a folder with a handful of images.")
    files = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".")
    if not files:
        raise UserError(f"{path} holds no images; put a handful of images of one thing there.")
    return files


def _pixels(image: Image, config: DataConfig, levels: ChooseLevels, name: str) -> Tensor:
    """Convert one image to a tensor [C, H, W] of uint8 or floats."""
    if isinstance(image, str | Path | Pillow.Image):
        try:
            background = "keep" if config.channels == 4 else "white"
            encoded = normalise(_encoded(image), background=background, levels=levels).data
        except BadImage as error:
            raise UserError(f"{name} cannot be used: {error}; mend or remove it.") from error
        except OSError as error:
            raise UserError(f"{name} cannot be read: {error}.") from error
        return torch.tensor(to_array(encoded, config.image_size, config.channels))
    if not isinstance(image, np.ndarray | Tensor):
        raise UserError(
            f"{name} is a {type(image).__name__}; give a file, a PIL image, an array or a tensor."
        )
    dtype = str(image.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise UserError(f"{name} has values of type {dtype}; give uint8 from 0 to 255, or floats.")
    pixels = _channels_first(image, name)
    _check_shape(pixels[None], config, name)
    return pixels


def _encoded(image: str | Path | Pillow.Image) -> bytes:
    if not isinstance(image, Pillow.Image):
        return Path(image).read_bytes()
    buffer = io.BytesIO()
    if image.mode == "P" and image.has_transparency_data:
        image = image.convert("RGBA")
    # TIFF keeps every mode that an image may have, from 1 bit to CMYK and 32 bits.
    turn = turn_of(image)
    (image.transpose(turn) if turn is not None else image).save(buffer, "TIFF")
    return buffer.getvalue()


def _channels_first(image: np.ndarray | Tensor, name: str) -> Tensor:
    if image.ndim not in (2, 3):
        raise UserError(
            f"{name} has the shape {list(image.shape)}; an array is [H, W] or [H, W, C], a tensor "
            f"[H, W] or [C, H, W]."
        )
    if isinstance(image, Tensor):
        return image[None] if image.ndim == 2 else image
    array = np.atleast_3d(image).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(array))


def _check_shape(images: Tensor, config: DataConfig, name: str) -> None:
    """Refuse images [N, C, H, W] that a model with this configuration cannot take.

    Raises:
        UserError: when they have another shape.
    """
    size = config.image_size
    if tuple(images.shape[-2:]) != (size, size):
        height, width = images.shape[-2:]
        raise UserError(
            f"{name} is {height} x {width} pixels, and the model takes {size} x {size}; resize it, "
            f"or give a PIL image, which is resampled."
        )
    if images.shape[1] != config.channels:
        raise UserError(
            f"{name} has {images.shape[1]} channels, and the model takes {config.channels}; "
            f"convert it, or give a PIL image, which is converted."
        )


def _value_range(
    pixels: Sequence[tuple[str, Tensor]], value_range: tuple[float, float] | None
) -> tuple[float, float]:
    """Return the lowest and highest value that floats may have, and check that none is beyond.

    Raises:
        UserError: when one is, or nothing tells the range.
    """
    floats = [(name, image) for name, image in pixels if image.is_floating_point()]
    low, high = value_range or (-1.0, 1.0)
    if not low < high:
        raise UserError(f"value_range is ({low:g}, {high:g}); give the lowest value first.")
    for name, image in floats:
        # Also where a value is not a number.
        if not bool((image >= low).all() and (image <= high).all()):
            raise UserError(
                f"{name} has values from {image.min():.3g} to {image.max():.3g}, and floats are "
                f"from {low:g} to {high:g}; scale them, or give value_range."
            )
    if floats and value_range is None and all(bool((p >= 0).all()) for _, p in floats):
        raise UserError(
            "these floats have no negative value, so they may be from 0 to 1 or from -1 to 1; give "
            "value_range=(0, 1) or value_range=(-1, 1)."
        )
    return low, high


def _scaled(image: Tensor, low: float, high: float) -> Tensor:
    """Scale one image to [-1, 1]."""
    if image.dtype == torch.uint8:
        return from_uint8(image.cpu())
    values = image.detach().cpu().float()
    return values if (low, high) == (-1.0, 1.0) else 2 * (values - low) / (high - low) - 1
