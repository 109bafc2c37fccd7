"""Opening an image file of a stranger, and loading its first frame."""

import re
from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageFile

from metatrain.base.text import reason_of
from metatrain.data.decoding.bad import CORRUPT, UNKNOWN, BadImage
from metatrain.data.decoding.damage import damage_of
from metatrain.data.decoding.levels import WidePixels, wide_header
from metatrain.data.decoding.orientation import turn_of, turn_of_tiff
from metatrain.data.decoding.quiet import no_warnings
from metatrain.data.decoding.strict_jpeg import read_strictly
from metatrain.data.decoding.tiff_directory import without_metadata
from metatrain.data.decoding.transparency import key_of

MAX_PIXELS = 64_000_000

# No other decoder is ever tried: hostile bytes reach well-tested decoders alone.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

# A whole file may be of a variant that Pillow does not read; it has no other way to say so.
_UNREAD_VARIANT = re.compile("unsupported|unknown|unrecognized|cannot handle|not supported", re.I)


@dataclass(frozen=True)
class Frame:
    """The first frame of an image file, loaded.

    Attributes:
        image: its pixels, not turned yet, with the `info` of the file.
        format: Pillow's name of the file's format.
        turn: the transposition that makes it upright.
        key: the colour that is transparent, in the values of the pixels.
        wide: its pixels where a channel has more than 8 bits.
        notes: its peculiarities so far.
    """

    image: Image.Image
    format: str | None
    turn: Image.Transpose | None
    key: int | tuple[int, ...] | None
    wide: WidePixels | None
    notes: list[str]

    def upright(self, image: Image.Image) -> Image.Image:
        """Turn an image that was made of this one."""
        return image if self.turn is None else image.transpose(self.turn)


def load_strictly(data: bytes) -> Frame:
    """Decode the first frame of an image file, and refuse damage of which decoders only warn.

    Raises:
        BadImage: when it cannot be decoded, is damaged, or has more than `MAX_PIXELS`.
    """
    with no_warnings():  # Pillow warns of faults that are mended or refused here.
        return _load_frame(data, strict=True)


def load_trusted(data: bytes) -> Frame:
    """Decode the first frame of an image file that was checked before, as fast as can be.

    Raises:
        BadImage: when it cannot be decoded, or has more than `MAX_PIXELS`.
    """
    return _load_frame(data, strict=False)


def _load_frame(data: bytes, strict: bool) -> Frame:
    if not data:
        raise BadImage("empty")
    tiff_turn = turn_of_tiff(data)
    file = _open(data)
    if file.width * file.height > MAX_PIXELS:
        raise BadImage("huge", f"{file.width} x {file.height} pixels")
    try:
        key, header, notes = key_of(file), wide_header(file, data), _notes(file)
        turn = tiff_turn if file.format == "TIFF" else turn_of(file)
        image = _load(file, data, strict)
    except BadImage:
        raise
    except Exception as error:  # Decoders may raise anything.
        raise _judged(error) from error
    if turn is not None:
        notes.append("EXIF rotation applied")
    wide = WidePixels(image, header, partial(_open, data)) if header else None
    return Frame(image, file.format, turn, key, wide, notes)


def _load(file: ImageFile.ImageFile, data: bytes, strict: bool) -> Image.Image:
    """Decode the pixels of an opened file."""
    if strict and file.format in ("JPEG", "MPO"):
        image = read_strictly(data)
        if image is not None:
            image.info = file.info
            return image
    if strict and (damage := damage_of(data, file)):
        raise BadImage(CORRUPT, damage)
    file.load()
    return file


def pixels_of(data: bytes) -> int | None:
    """Return the number of pixels of an image file by its header; None where that is not known."""
    try:
        with no_warnings():
            file = _open(data)
    except BadImage:
        return None
    return file.width * file.height


def has_wide_values(data: bytes) -> bool:
    """Return whether an image file has more than 8 bits a channel, by its header alone.

    Raises:
        BadImage: when it is no image.
    """
    return wide_header(_open(data), data) is not None


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read the header alone."""
    try:
        return Image.open(without_metadata(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage("huge") from error
    except Image.UnidentifiedImageError as error:
        raise BadImage(UNKNOWN) from error
    except Exception as error:
        raise _judged(error) from error


def _judged(error: Exception) -> BadImage:
    if _UNREAD_VARIANT.search(str(error)):
        return BadImage(UNKNOWN, reason_of(error))
    return BadImage(CORRUPT)


def _notes(image: ImageFile.ImageFile) -> list[str]:
    animated = getattr(image, "is_animated", False) and image.format != "MPO"
    return ["animated: first frame"] if animated else []
