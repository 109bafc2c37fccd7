"""Formats that further packages read, converted to PNG: HEIC, AVIF and SVG."""

import io
from typing import NamedTuple

from PIL import Image, features

from metatrain.base.errors import UserError
from metatrain.data.svg import BadDrawing, is_svg, render_svg

_AVIF, _HEIC = (b"avif", b"avis"), (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


class BadFormatError(Exception):
    """A file of one of these formats that cannot be read."""


class Converted(NamedTuple):
    """An image as a PNG file, and a note on its origin; `data` as it was without one."""

    data: bytes
    note: str | None


def as_png(data: bytes, size: int | None, most_pixels: int) -> Converted:
    """Convert an image of a further format to PNG, and leave any other as it is.

    Args:
        data: an image file.
        size: pixels of the shorter side of drawings, as `render_svg` takes it.
        most_pixels: of larger images nothing is decoded.

    Raises:
        BadFormatError: when it is damaged or too large.
        UserError: when its package is not installed.
    """
    if is_svg(data):
        try:
            return Converted(render_svg(data, size), "SVG: rendered")
        except BadDrawing as error:
            raise BadFormatError(str(error)) from error
    if data[4:8] != b"ftyp":
        return Converted(data, None)
    brands = {data[at : at + 4] for at in (8, *range(16, min(64, len(data)), 4))}
    if brands & set(_AVIF):
        return Converted(_photo(data, _avif(), most_pixels), "AVIF: converted")
    if brands & set(_HEIC):
        return Converted(_photo(data, _heif(), most_pixels), "HEIC: converted")
    return Converted(data, None)


def _photo(data: bytes, format_: str, most_pixels: int) -> bytes:
    try:
        image = Image.open(io.BytesIO(data), formats=(format_,))
        if image.width * image.height > most_pixels:
            raise BadFormatError(f"{image.width} x {image.height} pixels")
        kept = {k: image.info[k] for k in ("icc_profile", "exif") if image.info.get(k)}
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1, **kept)
    except BadFormatError:
        raise
    except Exception as error:  # Decoders may raise anything.
        raise BadFormatError("corrupt or truncated") from error
    return buffer.getvalue()


def _avif() -> str:
    if not features.check("avif"):
        raise UserError("this Pillow reads no AVIF; install one that does: pip install -U pillow")
    return "AVIF"


def _heif() -> str:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise UserError(
            "HEIC needs pillow_heif, which is not installed; pip install 'metatrain[heic]'."
        ) from error
    register_heif_opener()
    return "HEIF"
