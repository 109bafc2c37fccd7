"""Contact sheets with a name under each image."""

import io
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from metatrain.base.text import printable
from metatrain.data.pictures import pil_images

_MARGIN, _LINE, _FONT_SIZE = 4, 14, 11


def labelled_sheet(images: Tensor, names: Sequence[str]) -> bytes:
    """Encode images [N, C, H, W] in [-1, 1] with their names as one PNG, about as wide as high.

    A name of `unwritable` is written as its number.
    """
    numbers = unwritable(names)
    columns = math.ceil(math.sqrt(len(images)))
    width, height = images.shape[3] + _MARGIN, images.shape[2] + _LINE + _MARGIN
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (image, name) in enumerate(zip(pil_images(images), names, strict=True)):
        row, column = divmod(number, columns)
        left, top = _MARGIN + column * width, _MARGIN + row * height
        sheet.paste(image, (left, top))
        label = numbers.get(name) or _fitting(printable(name), image.width)
        draw.text((left, top + image.height), label, "black", _font())
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def unwritable(names: Sequence[str]) -> dict[str, str]:
    """Return the names that have a letter which the sheet's font lacks, each with its number."""
    letters = _letters()
    return {
        name: f"#{number}"
        for number, name in enumerate(names, start=1)
        if not letters.issuperset(map(ord, printable(name)))
    }


def _fitting(name: str, width: int) -> str:
    """Shorten a name to a width in pixels, in its middle: ends tell alike names apart."""
    kept = len(name)
    text = name
    while kept and _font().getlength(text) > width:
        kept -= 1
        text = f"{name[: -(-kept // 2)]}…{name[len(name) - kept // 2 :]}"
    return text


def _font_file() -> Path:
    # Of letters beyond Latin it has more than Pillow's own.
    import matplotlib  # takes longer than all else here

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_font_file(), _FONT_SIZE)


@cache
def _letters() -> frozenset[int]:
    with TTFont(_font_file(), lazy=True) as font:
        return frozenset(font.getBestCmap() or ())
