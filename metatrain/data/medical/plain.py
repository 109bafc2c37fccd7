"""Values of a medical image as an image file that packing reads like any other."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.decoding.bad import CORRUPT, BadImage, BadValue
from metatrain.data.decoding.quiet import no_warnings

_LEAST, _GREATEST = 340, 341  # SMinSampleValue and SMaxSampleValue of TIFF


class Window(NamedTuple):
    """The values that a viewer shows as black and white."""

    low: float
    high: float


@contextmanager
def refusing() -> Iterator[None]:
    """Turn whatever parsing and decoding raise into a reason, which quotes nothing of the file."""
    try:
        with no_warnings():
            yield
    except (BadValue, UserError):
        raise
    except Exception as error:  # Parsers and decoders may raise anything.
        raise BadImage(CORRUPT) from error


def as_file(values: np.ndarray, window: Window | None) -> bytes:
    """Encode an image: PNG for bytes without a window, else TIFF of float32, which keeps 16 bits.

    Args:
        values: [H, W] of any number, or [H, W, 3] of uint8.
        window: clips the values, and stands in the file as the range that they may have.

    Raises:
        BadImage: when no value is finite.
    """
    buffer = io.BytesIO()
    if values.dtype == np.uint8 and window is None:
        Image.fromarray(np.ascontiguousarray(values)).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
    values = values.astype(np.float32)
    if not np.isfinite(values).any():
        raise BadImage("no value is a finite number")
    tags = {}
    if window:
        values = values.clip(*window)
        tags = {_LEAST: float(window.low), _GREATEST: float(window.high)}
    Image.fromarray(np.ascontiguousarray(values)).save(buffer, "TIFF", tiffinfo=tags)
    return buffer.getvalue()
