"""Images of more than 8 bits a channel: the values that become black and white."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFile

from metatrain.data.decoding.bad import BadImage
from metatrain.data.decoding.grey_16 import GREY_16, declares_16_bits
from metatrain.data.decoding.strips import band_extrema, rows_of

_BITS_PER_SAMPLE, _WHITE_IS_ZERO = 258, 262
_MIN_SAMPLE_VALUE, _MAX_SAMPLE_VALUE = (280, 340), (281, 341)


@dataclass(frozen=True)
class Levels:
    """The values that become black and white."""

    low: float
    high: float


@dataclass(frozen=True)
class ValueExtent:
    """The values of one or several images.

    Attributes:
        kind: '16-bit' for counts of a sensor from 0 on; '32-bit' for all others and floats.
        low: the least finite value.
        high: the greatest finite value, or a greater one that the file declares.
    """

    kind: Literal["16-bit", "32-bit"]
    low: float
    high: float

    def __or__(self, other: "ValueExtent") -> "ValueExtent":
        """Return the extent of both, which are of one kind."""
        return ValueExtent(self.kind, min(self.low, other.low), max(self.high, other.high))

    @property
    def levels(self) -> Levels:
        """The range of the sensor, by its bits: 12 for values up to 4095; else the values' own."""
        if self.kind == "32-bit":
            return Levels(self.low, self.high)
        return Levels(0, 2 ** max(8, int(self.high).bit_length()) - 1)

    @property
    def stretched(self) -> Levels:
        """The least and the greatest value."""
        return Levels(self.low, self.high)


ALL_16_BITS = Levels(0, 2**16 - 1)

# Chooses the levels of an image by its extent.
ChooseLevels = Callable[[ValueExtent], Levels]


class WidePixels:
    """The pixels of an image of more than 8 bits a channel.

    Args:
        image: loaded; of mode I, F or I;16, or with the upper bytes of 16 bits a channel.
        header: the image before it was loaded.
        reopen: opens the file again, for the lower bytes.
    """

    def __init__(
        self, image: Image.Image, header: "WideHeader", reopen: Callable[[], ImageFile.ImageFile]
    ) -> None:
        self._image, self._header, self._reopen = image, header, reopen

    def extent(self) -> ValueExtent:
        """Return the extent of the values.

        Raises:
            BadImage: when none is finite.
        """
        lows, highs = [], []
        for _, values in self._strips(whole=not self._uses_top_bit(), colours_only=True):
            finite = values[np.isfinite(values)]
            if finite.size:
                lows.append(float(finite.min()))
                highs.append(float(finite.max()))
        if not lows:
            raise BadImage("no value is a finite number")
        low, high = self._header.declared
        kind = self._header.kind
        return ValueExtent(kind, min([*lows, *low]), max([*highs, *high]))

    @property
    def is_grey(self) -> bool:
        """Whether a pixel is one value."""
        return len(self._image.getbands()) == 1

    def to_16_bit(self, levels: Levels, notes: list[str]) -> Image.Image:
        """Scale grey values to 16 bits, of mode I;16, and add to `notes`."""
        if levels != ALL_16_BITS:
            notes.append(f"{self._header.kind}: spread over 16")
        return self._converted(GREY_16, lambda values: _spread(values, levels, "<u2"), notes)

    def to_8_bit(self, levels: Levels, notes: list[str]) -> Image.Image:
        """Scale to 8 bits, and add to `notes`; alpha, of 16 bits, by its upper byte."""
        notes.append(f"{self._header.kind}: scaled to 8")
        mode = self._image.mode if self._image.mode in ("LA", "RGB", "RGBA", "CMYK") else "L"
        whole = levels != ALL_16_BITS
        return self._converted(mode, lambda values: _scaled(values, levels), notes, whole=whole)

    def _converted(
        self,
        mode: str,
        scale: Callable[[np.ndarray], np.ndarray],
        notes: list[str],
        whole: bool = True,
    ) -> Image.Image:
        """Return an image of `mode` of scaled values; unless `whole`, lower bytes may be 0."""
        result, finite = Image.new(mode, self._image.size), True
        for box, values in self._strips(whole=whole):
            finite = finite and bool(np.isfinite(values).all())
            scaled = scale(values)
            if self._has_alpha:
                scaled[..., -1] = values[..., -1] >> 8
            scaled = np.iinfo(scaled.dtype).max - scaled if self._header.inverted else scaled
            size = (box[2] - box[0], box[3] - box[1])
            result.paste(Image.frombytes(mode, size, scaled.tobytes()), box)
        if not finite:
            notes.append("values that are no finite numbers: clipped")
        return result

    def differing(self, key: int | tuple[int, ...]) -> Image.Image:
        """Return a mask that is 0 where a pixel has exactly the values `key`, else 255."""
        mask = Image.new("L", self._image.size)
        for box, values in self._strips(colours_only=True):
            equal = values == np.asarray(key)
            equal = equal.all(axis=-1) if equal.ndim == 3 else equal
            mask.paste(Image.fromarray(np.where(equal, 0, 255).astype(np.uint8)), box)
        return mask

    def release(self) -> None:
        """Free the lower bytes; they are decoded again where they are needed again."""
        self.__dict__.pop("_low_bytes", None)

    def _uses_top_bit(self) -> bool:
        if not self._header.upper_bytes:
            return False
        extrema = band_extrema(self._image)
        colours = extrema[:-1] if self._has_alpha else extrema
        return max(high for _, high in colours) >= 128

    @property
    def _has_alpha(self) -> bool:
        return self._image.mode in ("LA", "RGBA")

    @cached_property
    def _low_bytes(self) -> Image.Image | None:
        return _load_low_bytes(self._reopen())

    def _strips(
        self, *, whole: bool = True, colours_only: bool = False
    ) -> Iterator[tuple[tuple[int, int, int, int], np.ndarray]]:
        """Yield the box and the values of each strip; unless `whole`, lower bytes may be 0."""
        for box in rows_of(self._image.size):
            values = np.asarray(self._image.crop(box))
            if self._header.upper_bytes:
                low = self._low_bytes if whole else None
                values = values.astype(np.uint16) << 8 | (np.asarray(low.crop(box)) if low else 0)
            yield box, values[..., :-1] if self._has_alpha and colours_only else values


@dataclass(frozen=True)
class WideHeader:
    """The facts about an image of more than 8 bits that are known before its pixels are loaded.

    Attributes:
        kind: of its `Extent`.
        upper_bytes: whether Pillow decodes the upper bytes of its channels alone.
        inverted: whether its greatest value is black.
        declared: the least and the greatest value that the file declares; each may be absent.
    """

    kind: Literal["16-bit", "32-bit"]
    upper_bytes: bool
    inverted: bool
    declared: tuple[list[float], list[float]]


def wide_header(image: ImageFile.ImageFile, data: bytes) -> WideHeader | None:
    """Return the facts about an image of more than 8 bits a channel; None for all others.

    Args:
        image: opened and not loaded.
        data: its file.
    """
    upper_bytes = image.mode != "I" and any(";16" in str(tile.args) for tile in image.tile)
    if image.mode.startswith("I;16"):
        kind, upper_bytes = "16-bit", False
    elif upper_bytes:
        kind = "16-bit"
    elif image.mode in ("I", "F"):
        kind = "32-bit"
    else:
        return None
    tags = getattr(image, "tag_v2", {})
    inverted = tags.get(_WHITE_IS_ZERO) == 0
    declared = ([], [ALL_16_BITS.high]) if declares_16_bits(data) else _declared(tags, kind)
    return WideHeader(kind, upper_bytes, inverted, declared)


def _load_low_bytes(image: ImageFile.ImageFile) -> Image.Image | None:
    """Decode the lower bytes of an image of 16 bits a channel, whose upper ones Pillow decodes.

    Pillow takes the first byte of a big-endian value and the second of a little-endian one, so it
    takes the other byte where the order is exchanged.

    Args:
        image: opened and not loaded; used up.

    Returns:
        None where Pillow has no such decoder.
    """
    image.tile = [tile._replace(args=_exchanged(tile.args)) for tile in image.tile]
    try:
        image.load()
    except (ValueError, OSError):
        return None
    return image


def _exchanged(args: Any) -> Any:
    if isinstance(args, tuple):
        return tuple(_exchanged(arg) for arg in args)
    native = "L" if sys.byteorder == "little" else "B"
    other = {"L": "B", "B": "L", "N": "B" if native == "L" else "L"}
    return re.sub(";16([LBN])$", lambda m: f";16{other[m[1]]}", args) if type(args) is str else args


def _declared(tags: Any, kind: str) -> tuple[list[float], list[float]]:
    """Return the least and the greatest value that TIFF tags declare.

    The greatest of the container says nothing: it is the default.
    """
    lows = [value for tag in _MIN_SAMPLE_VALUE for value in _numbers(tags.get(tag))]
    highs = [value for tag in _MAX_SAMPLE_VALUE for value in _numbers(tags.get(tag))]
    highs += [2**bits - 1 for bits in _numbers(tags.get(_BITS_PER_SAMPLE)) if 8 < bits < 16]
    if kind == "16-bit":
        return [], [high for high in highs if 0 < high < 2**16 - 1]
    return (lows, highs) if lows and highs and min(lows) < max(highs) else ([], [])


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, tuple) else (value,)
    return [v for v in values if isinstance(v, int | float) and np.isfinite(v)]


def _scaled(values: np.ndarray, levels: Levels) -> np.ndarray:
    low, high = levels.low, levels.high
    if values.dtype.kind == "u" and low == 0 and high in [2**bits - 1 for bits in range(8, 17)]:
        shift = int(high).bit_length() - 8
        return np.minimum(values >> shift, 255).astype(np.uint8)
    return _spread(values, levels, "u1")


def _spread(values: np.ndarray, levels: Levels, kind: str) -> np.ndarray:
    """Spread the values between two levels evenly over all values of an unsigned type."""
    low, high = levels.low, levels.high
    if not high > low:
        return np.zeros(values.shape, kind)
    # Infinities are clipped; a value that is no number is the lowest.
    values = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    scale = np.iinfo(kind).max / (high - low)
    return ((values.clip(low, high) - low) * scale).round().astype(kind)
