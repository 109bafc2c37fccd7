"""Decoding image bytes of any origin into images that training can trust.

Packing decodes every image once, here: an undecodable one is refused with a reason, and a kept one
is a still image of 8 bits, grey, RGB or RGBA, or of 16 bits, grey, that all decoders read alike.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from PIL import Image, ImageOps

from metatrain.data.decoding.bad import CORRUPT, UNKNOWN, BadImage, BadValue
from metatrain.data.decoding.blank import WARNINGS, warning_of
from metatrain.data.decoding.colours import profile_of, to_srgb
from metatrain.data.decoding.grey_16 import GREY_16, Bits, narrowed, png_of_16_bits, widened
from metatrain.data.decoding.levels import ChooseLevels, ValueExtent
from metatrain.data.decoding.opened import (
    MAX_PIXELS,
    Frame,
    has_wide_values,
    load_strictly,
    load_trusted,
    pixels_of,
)
from metatrain.data.decoding.raw_pixels import from_raw, header_of, to_raw
from metatrain.data.decoding.transparency import (
    Background,
    is_padding,
    settle,
    whiten_clear_pixels,
    with_alpha,
    with_key,
)
from metatrain.data.fingerprint import Fingerprint, fingerprint_of
from metatrain.data.further_formats import BadFormatError, Converted, as_png

__all__ = [
    "CENTRE",
    "MAX_PIXELS",
    "WARNINGS",
    "Background",
    "BadImage",
    "BadValue",
    "Bits",
    "NormalisedImage",
    "extent_of",
    "inspect",
    "normalise",
    "normalised_tiles",
    "open_packed",
    "pixels_of",
    "shape_of",
    "to_array",
    "uncropped",
]

# Phones write MPO: a JPEG followed by further JPEGs, which every decoder skips.
_KEPT_AS_THEY_ARE = ("PNG", "JPEG", "MPO", "WEBP")

# Where the square of an image that is not square lies, along its longer side.
CENTRE = 0.5
# The longest side of an image that is shown as a whole.
_LONGEST = 4096

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class NormalisedImage:
    """A still image: grey of 8 or 16 bits, RGB, or RGBA where transparency is kept.

    Attributes:
        data: the encoded image; the original bytes where nothing had to change, else a PNG.
        width: in pixels.
        height: in pixels.
        bits: of a channel.
        notes: the peculiarities that were handled, such as ``animated: first frame``, and those
            that deserve a look, such as ``a single colour``.
        fingerprint: of the pixels.
    """

    data: bytes
    width: int
    height: int
    bits: Bits
    notes: tuple[str, ...]
    fingerprint: Fingerprint


def normalise(
    data: bytes,
    size: int | None = None,
    raw: bool = False,
    *,
    background: Background = "white",
    levels: ChooseLevels | None = None,
    bits: Bits = 8,
) -> NormalisedImage:
    """Make a plain image of `data`: upright, of 8 or 16 bits, sRGB; grey, RGB or RGBA.

    Args:
        data: a PNG, JPEG, WebP, GIF, BMP or TIFF file; or, where their packages are installed, a
            HEIC, AVIF or SVG file.
        size: crop to the central square and resample it to `size` x `size` pixels, so that the
            shorter side just fits; None keeps the size.
        raw: return the pixels themselves, which decode fastest, in place of a PNG or JPEG file;
            for 8 bits alone.
        background: takes the place of transparency; 'keep' keeps it, as RGBA.
        levels: chooses the values of more than 8 bits that become black and white; None takes those
            of each image by itself.
        bits: 16 makes a PNG file of 16 bits of what is grey and not transparent.

    Raises:
        BadImage: when the bytes are empty, corrupt, of another format, or above `MAX_PIXELS`, or
            nothing is left to see once transparency is gone.
    """
    decoded = _decoded(data, size, background, levels, bits)
    image = decoded.image
    if size is not None:
        if min(image.size) < size:
            decoded.notes.append("smaller than --size: enlarged, which blurs")
        image = _square(image, size)
    return _normalised(decoded, image, raw, background)


def normalised_tiles(
    data: bytes,
    side: int,
    *,
    background: Background = "white",
    levels: ChooseLevels | None = None,
) -> list[NormalisedImage]:
    """Normalise an image as a whole, and cut a large one into tiles that do not overlap.

    Args:
        data: as for `normalise`.
        side: the longest side of a tile in pixels; tiles of one image differ by a pixel at most.
        background: as for `normalise`.
        levels: as for `normalise`.

    Raises:
        BadImage: as `normalise`.
    """
    decoded = _decoded(data, None, background, levels)
    across, down = (_cuts(length, side) for length in decoded.image.size)
    if len(across) == len(down) == 1:
        return [_normalised(decoded, decoded.image, False, background)]
    return [
        _normalised(decoded, decoded.image.crop((left, top, right, bottom)), False, background)
        for top, bottom in down
        for left, right in across
    ]


def extent_of(data: bytes) -> ValueExtent | None:
    """Return the extent of an image's values; None where they have 8 bits.

    Raises:
        BadImage: when it is damaged, or cannot be decoded.
    """
    wide = load_strictly(data).wide if has_wide_values(data) else None
    return wide.extent() if wide else None


def inspect(data: bytes) -> str:
    """Name what deserves a look in a packed image: one of `WARNINGS`, a colour profile, or ''.

    Raises:
        BadImage: when it is damaged, also where decoders only warn, or cannot be decoded.
    """
    image = from_raw(data)
    if image is None:
        image = load_strictly(data).image
        ignored: list[str] = []
        to_srgb(image, profile_of(image), ignored)
        if ignored:
            return "a colour profile, which training ignores"
    return warning_of(image)


def to_array(data: bytes, size: int, channels: int, crop: float = CENTRE) -> np.ndarray:
    """Decode an image for training.

    Args:
        data: an encoded image that `normalise` has passed.
        size: height and width of the result in pixels; other images are cropped and resampled.
        channels: 1 for grey, 3 for RGB, each on white, 4 for RGBA.
        crop: where the square lies along the longer side, from 0 at its left or top to 1.

    Returns:
        [channels, size, size] of uint8, or of uint16 for one channel of an image of 16 bits.

    Raises:
        BadImage: when the bytes cannot be decoded.
    """
    header = header_of(size, size, channels)
    if data.startswith(header) and len(data) == len(header) + size * size * channels:
        pixels = np.frombuffer(data, np.uint8, offset=len(header))  # already of this size
    else:
        square = partial(_square, size=size, crop=crop)
        pixels = np.asarray(_with_channels(open_packed(data), channels, square))
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))


def uncropped(data: bytes, size: int, channels: int) -> Image.Image:
    """Decode an image as `to_array` does, but as a whole, to show what a crop leaves out.

    Args:
        data: an encoded image that `normalise` has passed.
        size: its shorter side in pixels, less where the longer one would have too many.
        channels: 1 for grey, 3 for RGB, each on white, 4 for RGBA.

    Raises:
        BadImage: when the bytes cannot be decoded.
    """

    def resampled(image: Image.Image) -> Image.Image:
        scale = min(size / min(image.size), _LONGEST / max(image.size))
        width, height = (max(1, round(side * scale)) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)

    return _with_channels(open_packed(data), channels, resampled)


def shape_of(data: bytes) -> tuple[int, int, int]:
    """Return height, width and channels (1, 3 or 4) of an image that `normalise` has passed.

    Raises:
        BadImage: when the bytes cannot be decoded.
    """
    image = open_packed(data)
    return image.height, image.width, {"L": 1, GREY_16: 1, "RGBA": 4}.get(image.mode, 3)


@dataclass(frozen=True)
class _Decoded:
    """A plain, upright image, and the bytes that it was decoded from.

    Attributes:
        image: grey, RGB or RGBA, of 8 bits, or grey of 16.
        notes: the peculiarities that were handled.
        data: the bytes.
        kept: whether the bytes are an image of these very pixels, and may be packed.
    """

    image: Image.Image
    notes: list[str]
    data: bytes
    kept: bool


def _decoded(
    data: bytes,
    size: int | None,
    background: Background,
    levels: ChooseLevels | None,
    bits: Bits = 8,
) -> _Decoded:
    data, origin = _converted(data, size)
    frame = load_strictly(data)
    notes = frame.notes
    notes += [origin] if origin else []
    image = _plain(frame, background, levels, bits)
    if bits == 16 and image.mode == "L":
        notes.append("8-bit: spread over 16")
        image = widened(image)
    kept = image is frame.image and frame.turn is None and origin is None
    kept = kept and frame.format in _KEPT_AS_THEY_ARE and "animated: first frame" not in notes
    return _Decoded(frame.upright(image), notes, data, kept)


def _normalised(
    decoded: _Decoded, image: Image.Image, raw: bool, background: Background
) -> NormalisedImage:
    """Encode `image`, which is that of `decoded` or made of it."""
    notes, kept = [*decoded.notes], decoded.kept and image is decoded.image
    if image.mode == "RGBA":
        whitened = whiten_clear_pixels(image)
        image, kept = whitened, kept and whitened is image
    elif raw and background == "keep":
        image = image.convert("RGBA")  # All raw pixels of a data set have one layout.
    if warning := warning_of(image):
        notes.append(warning)
    data = to_raw(image) if raw else decoded.data if kept else _as_png(image)
    bits: Bits = 16 if image.mode == GREY_16 else 8
    width, height = image.size
    return NormalisedImage(data, width, height, bits, tuple(notes), fingerprint_of(image))


def _cuts(length: int, side: int) -> list[tuple[int, int]]:
    """Divide a length into equal parts of at most `side`, to a pixel."""
    count = -(-length // side)
    ends = [length * i // count for i in range(count + 1)]
    return list(pairwise(ends))


def _converted(data: bytes, size: int | None) -> Converted:
    try:
        return as_png(data, size, MAX_PIXELS)
    except BadFormatError as error:
        raise BadImage(CORRUPT, str(error)) from error


def open_packed(data: bytes) -> Image.Image:
    """Decode an encoded image that `normalise` has passed, at its size.

    Raises:
        BadImage: when the bytes cannot be decoded.
    """
    image = from_raw(data)
    if image is None:
        frame = load_trusted(data)
        image = frame.upright(frame.image)
    return image


def _with_channels(
    image: Image.Image, channels: int, resampled: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    if image.mode == GREY_16 and channels == 1:
        return resampled(image)
    if image.mode != "RGBA":
        return resampled(narrowed(image).convert(_MODES[channels]))
    image = whiten_clear_pixels(resampled(image))
    if channels == 4:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert(_MODES[channels])


def _plain(
    frame: Frame, background: Background, levels: ChooseLevels | None, bits: Bits
) -> Image.Image:
    """Convert a frame to 'L', 'RGB' or 'RGBA', or what is grey to 'I;16', and add to its notes.

    Returns:
        The frame's image itself where nothing had to change.
    """
    image, notes = frame.image, frame.notes
    if frame.wide:
        extent = frame.wide.extent()
        chosen = levels(extent) if levels else extent.levels
        if bits == 16 and frame.wide.is_grey and frame.key is None:
            if profile_of(frame.image):
                notes.append("colour profile that cannot be used: ignored")
            return frame.wide.to_16_bit(chosen, notes)
        image = frame.wide.to_8_bit(chosen, notes)
        if frame.key is not None:
            image = with_alpha(image, frame.wide.differing(frame.key))
        frame.wide.release()
    elif frame.key is not None and image.mode in ("1", "L", "RGB"):
        image = with_key(image, frame.key)
    elif frame.format == "BMP" and image.mode == "RGBA" and is_padding(image.getchannel("A")):
        notes.append("an alpha of 0 everywhere: ignored")
        image = image.convert("RGB")
    if image.mode == "CMYK":
        notes.append("CMYK: converted to RGB")
    image = to_srgb(image, profile_of(frame.image), notes)
    if image.has_transparency_data:
        return settle(image, background, notes)
    return _opaque(image, notes)


def _opaque(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "P":
        notes.append("palette: converted to RGB")
    elif image.mode not in ("1", "CMYK"):
        notes.append("other colour space: converted to RGB")
    try:
        return image.convert("L" if image.mode == "1" else "RGB")
    except ValueError as error:
        raise BadImage(UNKNOWN, f"colour space {image.mode}") from error


def _square(image: Image.Image, size: int, crop: float = CENTRE) -> Image.Image:
    """Crop and resample; in this order, or a 1 x 60000 strip would first grow 60000-fold."""
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS, centering=(crop, crop))


def _as_png(image: Image.Image) -> bytes:
    image.info = {}  # A CMYK profile or a palette's transparency no longer applies.
    if image.mode == GREY_16:
        return png_of_16_bits(image)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
