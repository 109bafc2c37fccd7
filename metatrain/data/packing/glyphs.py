"""The glyph benchmark: characters as tasks, faces as samples, rendered from matplotlib's fonts.

Nothing is downloaded. The faces are DejaVu, STIX and Computer Modern.
"""

import io
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fontTools import agl
from fontTools.ttLib import TTFont
from PIL import Image, ImageChops, ImageFont

MIN_FACES = 12

# In ems: a smaller glyph (a full stop, most accents) is a speck at the size of its neighbours.
MIN_INK = 0.42

# LastResort has placeholders; the other two have brackets and radicals stretched to sizes.
LEFT_OUT = ("LastResort", "STIXSiz", "cmex10")

# Glyphs with wrong names: TeX's italic dollar is a pound sign, and its two phis are swapped.
MISNAMED = {("cmti10", "dollar"), ("cmmi10", "phi"), ("cmmi10", "phi1")}


class Glyph(NamedTuple):
    """A glyph of a character in one face: the font, and the character code that selects it."""

    font: Path
    drawn_by: str


class GlyphImage(NamedTuple):
    """A rendered glyph: the name of its face, and an 8-bit grey PNG, black on white."""

    source: str
    png: bytes


@cache
def glyph_fonts() -> tuple[Path, ...]:
    """Return the font files of the benchmark, sorted by name."""
    import matplotlib  # takes longer than all else that packing imports

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return tuple(f for f in sorted(folder.glob("*.ttf")) if not f.stem.startswith(LEFT_OUT))


def glyph_tasks() -> dict[str, list[Glyph]]:
    """Return the glyphs of every character that may be a task, by name, such as ``U+0041``, sorted.

    Spaces, controls and combining marks are not shapes of their own and are left out, and so are
    characters that fewer than `MIN_FACES` faces have.
    """
    tasks: dict[str, list[Glyph]] = {}
    for font in glyph_fonts():
        for character, glyph in _coverage(font):
            if unicodedata.category(character)[0] not in "CMZ":
                tasks.setdefault(f"U+{ord(character):04X}", []).append(glyph)
    return {name: tasks[name] for name in sorted(tasks) if len(tasks[name]) >= MIN_FACES}


def glyph_images(size: int) -> Iterator[tuple[str, list[GlyphImage]]]:
    """Yield the name and the rendered images of each task, in the order of `glyph_tasks`.

    No two images of the whole set are equal: a bitmap of an earlier character does not count for a
    later one. Otherwise a Cyrillic letter held out for testing could have been seen in training as
    its Latin twin. Characters with fewer than `MIN_FACES` images left are dropped.

    Args:
        size: width and height of the square images, in pixels.
    """
    canvas = _Canvas(size)
    taken: set[bytes] = set()
    for name, glyphs in glyph_tasks().items():
        fresh: dict[bytes, tuple[str, Image.Image]] = {}
        for glyph in glyphs:
            image = canvas.draw(glyph)
            if image is not None and image.tobytes() not in taken:
                fresh.setdefault(image.tobytes(), (glyph.font.stem, image))
        if len(fresh) >= MIN_FACES:
            taken |= fresh.keys()
            yield name, [GlyphImage(source, _png(image)) for source, image in fresh.values()]


class _Canvas:
    """Renderer of glyphs, centred on squares, at four times the size first, for smooth edges.

    All characters share one scale, at which a capital about fills the canvas, so that an o stays
    smaller than an O; only a glyph that would not fit is shrunk.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._inner = size - 2 * max(1, round(size / 14))
        self._em = 4 * size
        self._fonts = {
            path: ImageFont.truetype(path, self._em, layout_engine=ImageFont.Layout.BASIC)
            for path in glyph_fonts()
        }

    def draw(self, glyph: Glyph) -> Image.Image | None:
        """Render a square 'L' image of the glyph, or return None where it has too little ink."""
        ink = self._ink(glyph)
        if ink is None or max(ink.size) < MIN_INK * self._em:
            return None
        scale = min(self._inner / max(ink.size), self._inner / (0.75 * self._em))
        width, height = (max(1, round(side * scale)) for side in ink.size)
        small = ink.resize((width, height), Image.Resampling.LANCZOS)
        square = Image.new("L", (self._size, self._size), 0)
        square.paste(small, ((self._size - width) // 2, (self._size - height) // 2))
        return ImageChops.invert(square)

    def _ink(self, glyph: Glyph) -> Image.Image | None:
        # Not ImageDraw, which measures the glyph, and renders it again on a canvas of that size.
        mask = self._fonts[glyph.font].getmask(glyph.drawn_by, mode="L")
        box = mask.getbbox()
        if box is None:
            return None
        return Image.frombytes("L", mask.size, bytes(mask)).crop(box)  # pyright: ignore


def _coverage(font: Path) -> Iterator[tuple[str, Glyph]]:
    """Yield the characters that a font contains, each with its glyph.

    Computer Modern's character maps follow TeX's encodings, not Unicode: there '<' selects an
    inverted exclamation mark. Its glyphs are identified by their Adobe names.
    """
    with TTFont(font, lazy=True) as opened:
        for code, name in (opened.getBestCmap() or {}).items():
            meant = agl.toUnicode(name) if font.stem.startswith("cm") else chr(code)
            if len(meant) == 1 and (font.stem, name) not in MISNAMED:
                yield meant, Glyph(font, chr(code))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
