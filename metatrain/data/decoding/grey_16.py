"""Grey images of 16 bits: to and from 8, and as PNG files that declare their bits.

Without a declaration, values up to 4095 are those of a sensor of 12 bits. A dark image that was
made with 16 must not be taken for one.
"""

import io
import struct
from typing import Literal

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

# Bits of a packed image's channels: 16 of grey alone.
Bits = Literal[8, 16]

# Pillow's mode of grey images of 16 bits.
GREY_16 = "I;16"

_SIGNATURE, _CHUNK = b"\x89PNG\r\n\x1a\n", b"sBIT"
# Chunks that come after it (PNG, third edition, 5.6).
_LATER = (b"PLTE", b"IDAT", b"IEND")


def widened(image: Image.Image) -> Image.Image:
    """Return a grey image of 8 bits as one of 16, in which 255 is 65,535."""
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


def narrowed(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits as one of 8, by the upper byte; others stay the same."""
    if image.mode != GREY_16:
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def png_of_16_bits(image: Image.Image) -> bytes:
    """Encode a grey image of 16 bits as a PNG file that declares them."""
    info, buffer = PngInfo(), io.BytesIO()
    info.add(_CHUNK, bytes([16]))
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def declares_16_bits(data: bytes) -> bool:
    """Tell whether a file is a PNG with 16 significant bits in every channel."""
    at = len(_SIGNATURE) if data.startswith(_SIGNATURE) else len(data)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == _CHUNK:
            return set(data[at + 8 : at + 8 + min(length, 4)]) == {16}
        if kind in _LATER:
            return False
        at += 12 + length
    return False
