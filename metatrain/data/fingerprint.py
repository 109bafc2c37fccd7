"""Fingerprints of images: equal for equal pixels, and close for copies that were saved again."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from metatrain.data.decoding.grey_16 import narrowed

# Height and width of an outline.
_SIDE = 16
# A copy that was saved as JPEG or resized differs by less in every value of its outline, of 255,
# and on average; two drawings that differ by one stroke do not.
_MOST, _MEAN = 12, 2.0
# Rows that are compared at once, so that a task of any size takes little memory.
_ROWS = 512


class Fingerprint(NamedTuple):
    """A fingerprint: a digest of all pixels, and the image in grey at 16 x 16 pixels."""

    pixels: bytes
    outline: bytes


def fingerprint_of(image: Image.Image) -> Fingerprint:
    """Return the fingerprint of a decoded image; a grey one equals its copy in RGB."""
    plain = image.convert("RGB") if image.mode == "L" else image
    digest = hashlib.blake2b(f"{plain.mode} {plain.size}".encode(), digest_size=16)
    digest.update(plain.tobytes())
    grey = narrowed(image).convert("RGB").convert("L")
    outline = grey.resize((_SIDE, _SIDE), Image.Resampling.HAMMING)
    return Fingerprint(digest.digest(), outline.tobytes())


def near_copies(outlines: Sequence[bytes]) -> int:
    """Count the images that are nearly the same as one before them; `outlines` is of one task."""
    if len(outlines) < 2:
        return 0
    values = np.frombuffer(b"".join(outlines), np.uint8).reshape(len(outlines), -1)
    values, means = values.astype(np.int16), values.mean(axis=1)
    order = np.argsort(means, kind="stable")
    values, means = values[order], means[order]
    # Copies have nearly the same mean: each image is compared with those just before it in order.
    begins = np.searchsorted(means, means - _MEAN)
    return sum(_has_copy(values[begin:at], values[at]) for at, begin in enumerate(begins))


def _has_copy(others: np.ndarray, image: np.ndarray) -> bool:
    for at in range(0, len(others), _ROWS):
        apart = np.abs(others[at : at + _ROWS] - image)
        if ((apart.max(axis=1) <= _MOST) & (apart.mean(axis=1) <= _MEAN)).any():
            return True
    return False
