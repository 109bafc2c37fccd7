"""Raw pixels in netpbm's formats, so that any viewer opens the images of a shard."""

import re

from PIL import Image

from metatrain.data.decoding.bad import CORRUPT, BadImage

_HEADER = re.compile(
    rb"P([56]) (\d{1,5}) (\d{1,5}) 255\n"
    rb"|P7\nWIDTH (\d{1,5})\nHEIGHT (\d{1,5})\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
)
_ALPHA = b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"


def header_of(width: int, height: int, channels: int) -> bytes:
    """Return the header of raw pixels: PGM, PPM, or PAM for 4 channels."""
    if channels == 4:
        return _ALPHA % (width, height)
    return b"P%d %d %d 255\n" % ({1: 5, 3: 6}[channels], width, height)


def to_raw(image: Image.Image) -> bytes:
    """Encode an image of mode L, RGB or RGBA."""
    return header_of(image.width, image.height, len(image.getbands())) + image.tobytes()


def from_raw(data: bytes) -> Image.Image | None:
    """Decode raw pixels, or return None where `data` is something else.

    Raises:
        BadImage: when pixels are missing, or too many.
    """
    header = _HEADER.match(data)
    if not header:
        return None
    kind, *sides = (group for group in header.groups() if group is not None)
    if header[1]:
        mode = "L" if kind == b"5" else "RGB"
    else:
        mode, sides = "RGBA", [kind, *sides]
    width, height, pixels = int(sides[0]), int(sides[1]), data[header.end() :]
    # Before Pillow takes memory for them.
    if not 0 < width * height * len(mode) == len(pixels):
        raise BadImage(CORRUPT)
    return Image.frombytes(mode, (width, height), pixels)
