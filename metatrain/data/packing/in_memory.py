"""Images that are in memory: PIL images, arrays, and bytes of files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.decoding.orientation import turn_of
from metatrain.data.images import BadImage


def encode(image: Any, name: str) -> bytes:
    """Return an image as the bytes of a file that `normalise` reads.

    Args:
        image: a PIL image, uint8 pixels [H, W] or [H, W, C] with 1, 3 or 4 channels, uint16 pixels
            [H, W], the path of a file, or the bytes of one.
        name: of the image, for messages.

    Raises:
        BadImage: when its file cannot be read.
        UserError: when it is of no such type or shape.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise BadImage("cannot be read") from error
    if isinstance(image, Image.Image):
        return encode_pil(image)
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"{name} is a {type(image).__name__}; give a PIL image, an array of uint8, the path of "
            f"a file, or its bytes."
        )
    pixels = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    coloured = pixels.dtype == np.uint8 and pixels.shape[2:] in ((3,), (4,))
    if not (coloured or (pixels.dtype in (np.uint8, np.uint16) and pixels.ndim == 2)):
        raise UserError(
            f"{name} has the shape {list(image.shape)} of {image.dtype}; an array is uint8 "
            f"[H, W] or [H, W, C] with 1, 3 or 4 channels, or uint16 [H, W]."
        )
    return encode_pil(Image.fromarray(pixels))


def encode_pil(image: Image.Image) -> bytes:
    """Return a PIL image of any mode as a file, upright."""
    buffer = io.BytesIO()
    if image.mode == "P" and image.has_transparency_data:
        image = image.convert("RGBA")
    # TIFF keeps every mode that an image may have, from 1 bit to CMYK and 32 bits.
    turn = turn_of(image)
    (image.transpose(turn) if turn is not None else image).save(buffer, "TIFF")
    return buffer.getvalue()
