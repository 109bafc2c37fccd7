"""Decoding image bytes of any origin into images that training can trust.

Packing decodes every image once, here: an undecodable one is refused with a reason, and a kept one
is an 8-bit grey or RGB still image that all decoders read alike.
"""

import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, ImageOps

MAX_PIXELS = 64_000_000

# No other decoder is ever tried: hostile bytes reach well-tested decoders alone.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

# Phones write MPO: a JPEG followed by further JPEGs, which every decoder skips.
_KEPT_AS_THEY_ARE = ("PNG", "JPEG", "MPO", "WEBP")

_ORIENTATION = 0x0112

# The header of raw pixels: netpbm's, so that any viewer opens the images of a shard.
_NETPBM = re.compile(rb"P([56]) (\d{1,5}) (\d{1,5}) 255\n")


class BadValue(Exception):  # noqa: N818
    """A value that cannot be packed or decoded.

    Attributes:
        reason: the kind of fault, one of a few, for counting.
        detail: further particulars, which may differ from one value to the next.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason, self.detail = reason, detail


class BadImage(BadValue):
    """Bytes that are not an image we accept."""


@dataclass(frozen=True)
class NormalisedImage:
    """An 8-bit grey or RGB still image.

    Attributes:
        data: the encoded image; the original bytes where nothing had to change, else a PNG.
        width: in pixels.
        height: in pixels.
        notes: the peculiarities that were handled, such as ``animated: first frame``.
    """

    data: bytes
    width: int
    height: int
    notes: tuple[str, ...]


def normalise(data: bytes, size: int | None = None, raw: bool = False) -> NormalisedImage:
    """Make a plain image of `data`: upright, opaque, 8 bits, grey or RGB.

    Args:
        data: a PNG, JPEG, WebP, GIF, BMP or TIFF file.
        size: crop to the central square and resample it to `size` x `size` pixels, so that the
            shorter side just fits; None keeps the size.
        raw: return the pixels themselves, which decode fastest, in place of a PNG or JPEG file.

    Raises:
        BadImage: when the bytes are empty, corrupt, of another format, or above `MAX_PIXELS`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of faults that are mended or refused here.
        original, notes = _decode(data)
    image = _plain(original, notes)
    if size is not None:
        if min(image.size) < size:
            notes.append("smaller than --size: enlarged, which blurs")
        image = _square(image, size)
    if raw:
        data = _as_netpbm(image)
    elif image is not original or original.format not in _KEPT_AS_THEY_ARE or notes:
        data = _as_png(image)
    return NormalisedImage(data, image.width, image.height, tuple(notes))


def to_array(data: bytes, size: int, channels: int) -> np.ndarray:
    """Decode an image for training.

    Args:
        data: an encoded image that `normalise` has passed.
        size: height and width of the result in pixels; other images are cropped and resampled.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 [channels, size, size].

    Raises:
        BadImage: when the bytes cannot be decoded.
    """
    header = _netpbm_header(size, size, channels)
    if data.startswith(header) and len(data) == len(header) + size * size * channels:
        pixels = np.frombuffer(data, np.uint8, offset=len(header))  # already of this size
    else:
        image = _from_netpbm(data) or _decode(data)[0]
        pixels = np.asarray(_square(image.convert({1: "L", 3: "RGB"}[channels]), size))
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))


def shape_of(data: bytes) -> tuple[int, int, int]:
    """Return height, width and channels (1 or 3) of an encoded image that `normalise` has passed.

    Raises:
        BadImage: when the bytes cannot be decoded.
    """
    image = _from_netpbm(data) or _decode(data)[0]
    return image.height, image.width, 1 if image.mode == "L" else 3


def _decode(data: bytes) -> tuple[Image.Image, list[str]]:
    """Decode the first frame of `data`, upright, with notes on its peculiarities."""
    if not data:
        raise BadImage("empty")
    image = _open(data)
    if image.width * image.height > MAX_PIXELS:
        raise BadImage("huge", f"{image.width} x {image.height} pixels")
    try:
        notes = _peculiarities(image)
        image.load()
        if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
            notes.append("EXIF rotation applied")
            ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # Decoders may raise anything.
        raise BadImage("corrupt or truncated") from error
    return image, notes


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read the header alone."""
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage("huge") from error
    except Image.UnidentifiedImageError as error:
        raise BadImage("unknown format") from error
    except Exception as error:
        raise BadImage("corrupt or truncated") from error


def _peculiarities(image: ImageFile.ImageFile) -> list[str]:
    """Return notes that are known only before the pixels are decoded."""
    notes = []
    if getattr(image, "is_animated", False) and image.format != "MPO":
        notes.append("animated: first frame")
    # A raw mode such as 'RGB;16B': 16 bits a channel, of which Pillow returns the upper eight.
    if any(";16" in str(tile.args) for tile in image.tile):
        notes.append("16-bit: scaled to 8")
    return notes


def _plain(image: Image.Image, notes: list[str]) -> Image.Image:
    """Convert to 'L' or 'RGB', and add to `notes`; an image of these modes is returned itself."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return _to_8_bit(image, notes)
    if image.has_transparency_data:
        return _on_white(image, notes)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    known = {"CMYK": "CMYK: converted to RGB", "P": "palette: converted to RGB"}
    notes.append(known.get(image.mode, "other colour space: converted to RGB"))
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise BadImage("unknown format", f"colour space {image.mode}") from error


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    grey = image.mode in ("1", "L", "LA", "La")
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        notes.append("transparent: on white")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("L" if grey else "RGB")


def _to_8_bit(image: Image.Image, notes: list[str]) -> Image.Image:
    """Scale 16 bits by their full range, and wider pixels, which have none, by the range in use."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    notes.append("32-bit: scaled to 8")
    pixels = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = pixels.min(), pixels.max()
    scaled = (pixels - low) * (255 / (high - low)) if high > low else np.zeros_like(pixels)
    return Image.fromarray(scaled.round().astype(np.uint8))


def _square(image: Image.Image, size: int) -> Image.Image:
    """Crop and resample; in this order, or a 1 x 60000 strip would first grow 60000-fold."""
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def _as_png(image: Image.Image) -> bytes:
    image.info = {}  # A CMYK profile or a palette's transparency no longer applies.
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _as_netpbm(image: Image.Image) -> bytes:
    channels = len(image.getbands())
    return _netpbm_header(image.width, image.height, channels) + image.tobytes()


def _netpbm_header(width: int, height: int, channels: int) -> bytes:
    return b"P%d %d %d 255\n" % ({1: 5, 3: 6}[channels], width, height)


def _from_netpbm(data: bytes) -> Image.Image | None:
    """Decode raw pixels, or return None where `data` is something else."""
    header = _NETPBM.match(data)
    if not header:
        return None
    kind, width, height = (int(number) for number in header.groups())
    try:
        return Image.frombytes("L" if kind == 5 else "RGB", (width, height), data[header.end() :])
    except ValueError as error:
        raise BadImage("corrupt or truncated") from error
