"""Supports from what a caller has: folders, files, PIL images, arrays and tensors."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.base.text import counted
from metatrain.data.config import DataConfig
from metatrain.data.decoding.levels import ChooseLevels
from metatrain.data.episode_config import MOST_SUPPORT
from metatrain.data.examples import Examples
from metatrain.data.images import CENTRE, BadImage, normalise, shape_of, to_array
from metatrain.data.medical.files import is_medical_name, middle_slice
from metatrain.data.packing.containers import open_container
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.in_memory import encode
from metatrain.data.packing.names import is_image_name
from metatrain.data.pictures import from_levels
from metatrain.data.task_levels import levels_of
from metatrain.storage.files import MissingError, is_folder, read_file

# The mean distance of the channels of an image, of 255, above which it counts as coloured.
_COLOUR = 3

_DTYPES = ("uint8", "uint16", "float16", "bfloat16", "float32", "float64")

# One image: the path or URL of a file, its bytes, or pixels: [H, W] or [H, W, C] of an array,
# [H, W] or [C, H, W] of a tensor.
Image = str | Path | bytes | Pillow.Image | np.ndarray | Tensor
# A folder, several images, or an array or tensor with one dimension more for the image.
Images = Examples | Image | Sequence[Image]


def as_support(
    images: Images,
    config: DataConfig,
    value_range: tuple[float, float] | None = None,
    *,
    crops: Sequence[float] | None = None,
) -> Examples:
    """Convert images to a support.

    Files and PIL images are made upright, cropped to the central square, resampled and converted
    to the model's channels, as they are when a data set is packed. Pixels of arrays and tensors
    must have the model's size and channels: uint8 from 0 to 255, uint16 from 0 to 65,535, or
    floats. Of a model with `data.bits=16`, grey files keep 16 bits.

    Args:
        images: a folder or an archive at a path or any fsspec URL, whose images are taken in the
            order of their names, as packing takes them, without those that it would refuse; one
            image, or several; or `Examples`, which keep their conditions.
        config: the size and channels that the model takes.
        value_range: lowest and highest value of floats; by default (-1, 1), which at least one
            negative value has to confirm.
        crops: of each file where its square lies along the longer side, from 0 at its left or top
            to 1; the central ones by default.

    Raises:
        UserError: when there is no image, or one that is named cannot be used.
    """
    if isinstance(images, Examples):
        _refuse_many(len(images))
        _check_shape(images.target, config, "the support")
        return images
    named = _named_images(images)
    if not named:
        raise UserError("there are no images to adapt to; give at least one.")
    _refuse_many(len(named))
    files = [
        (n, image) for n, image in named if isinstance(image, str | Path | bytes | Pillow.Image)
    ]
    levels = levels_of([partial(_encoded, image, name) for name, image in files])
    coloured: list[str] = []
    pixels: list[tuple[str, Tensor]] = []
    refused: list[tuple[str, BadImage]] = []
    for (name, image), crop in zip(named, crops or [CENTRE] * len(named), strict=True):
        try:
            pixels.append((name, _pixels(image, config, levels, name, coloured, crop)))
        except BadImage as error:
            refused.append((name, error))
    if refused:
        # Those of a folder have no name by the user's own word.
        _pass_over(refused, of=len(named) if isinstance(images, str | Path) else 1)
    if coloured:
        say(f"The model draws grey, so the colours of {_few(coloured)} are dropped.")
    low, high = _value_range(pixels, value_range)
    return Examples(torch.stack([_scaled(image, low, high) for _, image in pixels]))


def _pass_over(refused: Sequence[tuple[str, BadImage]], of: int) -> None:
    """Tell which images are passed over, as packing does.

    Args:
        refused: names, and what is wrong with them.
        of: how many were to be used.

    Raises:
        UserError: when no image is left.
    """
    name, error = refused[0]
    if len(refused) >= of:
        raise UserError(f"{name} cannot be used: {error}; mend or remove it.") from error
    for name, error in refused:
        say(f"passed over {name}: {error}")


def _refuse_many(count: int) -> None:
    if count > MOST_SUPPORT:
        raise UserError(f"there are {count:,} images to adapt to; give at most {MOST_SUPPORT:,}.")


def _named_images(images: Image | Sequence[Image]) -> list[tuple[str, Image | BadImage]]:
    """List the images, each with the name that a message gives it."""
    if isinstance(images, str | Path):
        return _files(str(images))
    if isinstance(images, np.ndarray | Tensor):
        images = list(images) if images.ndim == 4 else [images]
    elif isinstance(images, Pillow.Image | bytes):
        images = [images]
    return [
        (str(image) if isinstance(image, str | Path) else f"image {number}", image)
        for number, image in enumerate(images, start=1)
    ]


def _files(url: str) -> list[tuple[str, Image | BadImage]]:
    """List the images of a folder or an archive: those in it itself, or else all below it."""
    if _is_image_url(url):
        return [(url, url)]
    try:
        container = open_container(url)
    except MissingError as error:
        raise UserError(
            f"there is no folder {url}; give a folder with a handful of images."
        ) from error
    if set(container.sizes) == {""}:  # a file itself
        return [(url, url)]
    names = sorted(n for n in container.sizes if is_image_name(n) or is_medical_name(n))
    names = [name for name in names if "/" not in name] or names
    _refuse_many(len(names))
    if not names:
        raise UserError(f"{url} holds no images; put a handful of images of one thing there.")
    return [(f"{url}/{name}", _read(container, name)) for name in names]


def _is_image_url(url: str) -> bool:
    """Tell whether `url` names an image file by its ending."""
    web = url.startswith(("http://", "https://"))
    path = PurePosixPath(urlsplit(url).path if web else url)
    # Only the web has no folders to ask for.
    return bool(path.suffix) and is_image_name(path.name) and (web or not is_folder(url))


def _read(container: Container, name: str) -> bytes | BadImage:
    try:
        return container.read(name)
    except BadImage as error:
        return error


def _few(names: Sequence[str]) -> str:
    """Name the first of `names`, and count the others."""
    others = len(names) - 1
    return names[0] if not others else f"{names[0]} and {counted(others, 'other image')}"


def _pixels(
    image: Image | BadImage,
    config: DataConfig,
    levels: ChooseLevels,
    name: str,
    coloured: list[str],
    crop: float,
) -> Tensor:
    """Convert one image to a tensor [C, H, W] of uint8, uint16 or floats.

    Files whose colours are lost are added to `coloured`.

    Raises:
        BadImage: when the file cannot be used.
        UserError: when the array has another shape or type.
    """
    if isinstance(image, BadImage):
        raise image
    if isinstance(image, str | Path | bytes | Pillow.Image):
        background = "keep" if config.channels == 4 else "white"
        data = _encoded(image, name)
        options = {"background": background, "levels": levels, "bits": config.bits}
        encoded = normalise(data, **options).data
        if config.channels == 1 and _is_coloured(encoded, config.image_size):
            coloured.append(name)
        return torch.tensor(to_array(encoded, config.image_size, config.channels, crop))
    if not isinstance(image, np.ndarray | Tensor):
        raise UserError(
            f"{name} is a {type(image).__name__}; give a file, a PIL image, an array or a tensor."
        )
    dtype = str(image.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise UserError(
            f"{name} has values of type {dtype}; give uint8 from 0 to 255, uint16 from 0 to "
            f"65,535, or floats."
        )
    pixels = _channels_first(image, name)
    _check_shape(pixels[None], config, name)
    return pixels


def _is_coloured(encoded: bytes, size: int) -> bool:
    """Tell whether an image has colours that a person sees; compression leaves traces of some."""
    if shape_of(encoded)[2] == 1:
        return False
    pixels = to_array(encoded, size, 3).astype(np.int16)
    return bool((pixels.max(axis=0) - pixels.min(axis=0)).mean() > _COLOUR)


def _encoded(image: Image, name: str) -> bytes:
    data = read_file(str(image)) if isinstance(image, str | Path) else encode(image, name)
    return middle_slice(data, name)


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
    if image.dtype in (torch.uint8, torch.uint16):
        return from_levels(image.cpu())
    values = image.detach().cpu().float()
    return values if (low, high) == (-1.0, 1.0) else 2 * (values - low) / (high - low) - 1
