"""Photographs from what a caller has: files, bytes, PIL images, arrays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.data.packing.in_memory import encode
from metatrain.data.photo import Photo, read_photo
from metatrain.storage.files import read_file

# A file at a path or URL, its bytes, a PIL image, or pixels [H, W] or [H, W, C].
PhotoLike = Photo | str | Path | bytes | Image.Image | np.ndarray


def as_photo(image: PhotoLike) -> Photo:
    """Convert an image to a photograph.

    Raises:
        UserError: when it cannot be used.
    """
    if isinstance(image, Photo):
        return image
    if isinstance(image, np.ndarray):
        return _photo_of(image)
    name = str(image) if isinstance(image, str | Path) else "the image"
    data = read_file(str(image)) if isinstance(image, str | Path) else encode(image, name)
    try:
        photo = read_photo(data)
    except BadImage as error:
        raise UserError(f"{name} cannot be used: {error}; mend it.") from error
    return replace(photo, format="PNG") if isinstance(image, Image.Image) else photo


def _photo_of(pixels: np.ndarray) -> Photo:
    shape, kind = np.atleast_3d(pixels).shape, str(pixels.dtype)
    counts = {"uint8": (1, 2, 3, 4), "uint16": (1,)}.get(kind, ())
    if len(shape) != 3 or shape[2] not in counts or not pixels.size:
        raise UserError(
            f"an array {list(pixels.shape)} of {kind} is no image; give [H, W] or [H, W, C] of "
            f"uint8, or [H, W] of uint16."
        )
    return Photo(np.atleast_3d(pixels))
