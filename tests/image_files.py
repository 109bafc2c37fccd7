"""Image files for tests, made on the spot."""

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

GREY_LEVELS = np.arange(40 * 50, dtype=np.uint32).reshape(40, 50) * 8 % 251
PICTURE = Image.fromarray(
    np.stack([GREY_LEVELS, GREY_LEVELS.T.reshape(40, 50), 250 - GREY_LEVELS], 2).astype(np.uint8)
)
GREY = PICTURE.convert("L")


# Smooth with some noise, as photos are: its codes are of many lengths.
_Y, _X = np.mgrid[:96, :128]
PHOTO = Image.fromarray(
    (
        np.stack([_X * 1.5, _Y * 2, 200 - _X - _Y / 2], 2)
        + np.random.default_rng(0).normal(0, 8, (96, 128, 3))
    )
    .clip(0, 255)
    .astype(np.uint8)
)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def raw_png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    pixels: bytes,
    chunks: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """A PNG of filtered rows (each begins with its filter), with chunks before its pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    before = b"".join(chunk(name, body) for name, body in (chunks or {}).items())
    data = chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + before + data


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
