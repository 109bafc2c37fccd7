"""The picture of a letter: black on white, with the baseline and the size of its typeface."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from metatrain.data.font_tables import check_tables
from metatrain.data.images import BadImage

# Shares of a picture's side: the em, and the place of the baseline from the top. A capital of most
# typefaces is then half as high as its picture.
EM, BASELINE = 0.7, 0.75

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

# A typeface of all of Unicode has less.
_MOST_BYTES = 64_000_000
# Beginnings of TrueType and OpenType files; compressed ones (WOFF) and collections have others.
_OPENINGS = (b"\0\1\0\0", b"true", b"OTTO")
# Drawn larger first, for smooth edges.
_ZOOM = 4
# Identifiers of the table of names: the family that all weights share, else the one of four.
_FAMILIES, _LICENCES = (16, 1), (14, 13)
_MOST_LICENCE = 100


class _Tables(NamedTuple):
    """Codes of the characters of a font, and its names by their identifiers."""

    codes: frozenset[int]
    names: Mapping[int, str]


@dataclass(frozen=True)
class Typeface:
    """A font file, from which letters are drawn.

    Attributes:
        data: the file.
        size: width and height of the pictures, in pixels.
    """

    data: bytes
    size: int

    def letters(self) -> str:
        """Return those of `LETTERS` that it has.

        Raises:
            BadImage: when it cannot be read.
        """
        return "".join(letter for letter in LETTERS if ord(letter) in self._tables.codes)

    @property
    def family(self) -> str:
        """The family that it belongs to with its weights and slopes, or ''."""
        return self._name(_FAMILIES)

    @property
    def licence(self) -> str:
        """The address of its licence, or the beginning of its text, or ''."""
        return self._name(_LICENCES)[:_MOST_LICENCE]

    def draw(self, letter: str) -> bytes:
        """Draw a letter as an 8-bit grey PNG.

        Raises:
            BadImage: when it has no ink, reaches out of its picture, or the file is damaged.
        """
        try:
            picture = self._picture(letter)
        except (OSError, ValueError) as error:
            raise BadImage("a font that cannot be drawn", str(error)) from error
        buffer = io.BytesIO()
        picture.resize((self.size, self.size), Image.Resampling.LANCZOS).save(buffer, "PNG")
        return buffer.getvalue()

    def _picture(self, letter: str) -> Image.Image:
        left, top, right, bottom = self._font.getbbox(letter, anchor="ls")
        side, baseline = self.size * _ZOOM, round(BASELINE * self.size * _ZOOM)
        if right <= left or bottom <= top:
            raise BadImage("a letter without ink")
        if right - left > side or -top > baseline or bottom > side - baseline:
            raise BadImage("a letter larger than its picture")
        picture = Image.new("L", (side, side), 255)
        place = ((side - (right - left)) / 2 - left, baseline)
        ImageDraw.Draw(picture).text(place, letter, fill=0, font=self._font, anchor="ls")
        return picture

    @cached_property
    def _font(self) -> ImageFont.FreeTypeFont:
        em = round(EM * self.size * _ZOOM)
        layout = ImageFont.Layout.BASIC
        return ImageFont.truetype(io.BytesIO(self.data), em, layout_engine=layout)

    def _name(self, identifiers: tuple[int, ...]) -> str:
        return next((name for i in identifiers if (name := self._tables.names[i])), "")

    @cached_property
    def _tables(self) -> "_Tables":
        if len(self.data) > _MOST_BYTES:
            raise BadImage("huge", f"{len(self.data):,} bytes")
        if not self.data.startswith(_OPENINGS):
            raise BadImage("no TrueType or OpenType font")
        try:
            with TTFont(io.BytesIO(self.data), lazy=True) as font:
                check_tables(font)
                names = {i: font["name"].getDebugName(i) or "" for i in _FAMILIES + _LICENCES}
                return _Tables(frozenset(font.getBestCmap() or {}), names)
        except BadImage:
            raise
        # fontTools raises whatever comes up in a damaged file.
        except Exception as error:
            raise BadImage("a font that cannot be read", str(error)) from error
