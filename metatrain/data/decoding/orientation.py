"""The orientation of a photo: one number, whatever its other metadata hold.

Pillow reads and writes back all of EXIF to turn an image, and fails on an odd tag that has nothing
to do with the pixels. Here only the number is read.
"""

import re
from collections.abc import Mapping
from typing import Literal

from PIL import Image

from metatrain.data.decoding.tiff_directory import entries_of, order_of

_ORIENTATION = 0x0112
_XMP_TAG = 700
_ORDERS: Mapping[str | None, Literal["little", "big"]] = {"<": "little", ">": "big"}
_SIZES = {1: 1, 3: 2, 4: 4}  # of BYTE, SHORT and LONG, by TIFF's number of the type
_XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes an image upright, by its EXIF or else its XMP."""
    xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    return _turn(_exif(image), xmp.encode() if isinstance(xmp, str) else xmp)


def turn_of_tiff(data: bytes) -> Image.Transpose | None:
    """Return the transposition that makes a TIFF file upright, by its tag or else its XMP.

    None for BigTIFF, which Pillow turns, and for all other files.
    """
    xmp = b""
    for entry in entries_of(data):
        if entry.tag == _XMP_TAG:
            start = int.from_bytes(data[entry.place : entry.place + 4], _ORDERS[order_of(data)])
            xmp = data[start : start + entry.values]
    return _turn(data, xmp)


def _turn(tiff: bytes, xmp: bytes) -> Image.Transpose | None:
    number = _number(tiff)
    if number is None:
        match = _XMP.search(xmp)
        number = int(match[1]) if match else 1
    return _TURNS.get(number)


def _exif(image: Image.Image) -> bytes:
    exif = image.info.get("exif")
    if exif is None and "Raw profile type exif" in image.info:  # ImageMagick's, in a PNG's text
        try:
            text = str(image.info["Raw profile type exif"])
            exif = bytes.fromhex("".join(text.split("\n")[3:]))
        except ValueError:
            exif = None
    return (exif or b"").removeprefix(b"Exif\0\0")


def _number(tiff: bytes) -> int | None:
    """Return the orientation in the first directory of a TIFF file or an EXIF block."""
    for entry in entries_of(tiff):
        if entry.tag == _ORIENTATION and entry.kind in _SIZES and entry.values == 1:
            value = tiff[entry.place : entry.place + _SIZES[entry.kind]]
            return int.from_bytes(value, _ORDERS[order_of(tiff)])
    return None
