"""Crops side by side, of every system and of its difference to the truth: a page and a picture."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.super_resolution.sets import Pair

# Side of a crop in pixels, and by how much differences are multiplied.
_SIDE, _GAIN = 96, 4
# Of the picture: the side at which a crop is shown, the gap between them, and room for names.
_SHOWN, _GAP, _HEAD = 144, 4, 22
# More rows would make the picture too large for a page of documentation.
_PICTURED = 2

_STYLE = (
    "body{font:15px sans-serif;margin:2em}td{padding:3px}img{width:192px;image-rendering:pixelated}"
)

Results = Mapping[str, Sequence[np.ndarray]]


def page(pairs: Sequence[Pair], results: Results, table: str) -> str:
    """Return the page, as HTML that needs no other file.

    Args:
        pairs: the images.
        results: by system, the enlarged image [H, W, 3] in 0 .. 255 of each pair.
        table: the scores, as text.
    """
    rows = [_rows(index, pair, results) for index, pair in enumerate(pairs)]
    return (
        f"<!doctype html><meta charset=utf-8><title>Super-resolution</title><style>{_STYLE}</style>"
        f"<h1>Super-resolution</h1><pre>{html.escape(table)}</pre>"
        f"<p>The middle {_SIDE} pixels; below, the difference to the truth times {_GAIN}.</p>"
        f"{''.join(rows)}"
    )


def picture(pairs: Sequence[Pair], results: Results) -> Image.Image:
    """Draw what the page shows of the first pairs, in one image."""
    names, step = ("truth", *results), _SHOWN + _GAP
    rows = 2 * min(_PICTURED, len(pairs))
    sheet = Image.new("RGB", (len(names) * step + _GAP, _HEAD + rows * step), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, name in enumerate(names):
        draw.text((_GAP + column * step, 3), name, "#222", font)
    for index, pair in enumerate(pairs[:_PICTURED]):
        crops, apart = _crops(index, pair, results)
        for row, line in ((2 * index, crops), (2 * index + 1, [None, *apart])):
            for column, crop in enumerate(line):
                if crop is not None:
                    shown = _image(crop).resize((_SHOWN, _SHOWN), Image.Resampling.NEAREST)
                    sheet.paste(shown, (_GAP + column * step, _HEAD + row * step))
    return sheet


def _rows(index: int, pair: Pair, results: Results) -> str:
    crops, apart = _crops(index, pair, results)
    heads = "".join(f"<th>{html.escape(name)}" for name in ("truth", *results))
    images, below = ("".join(f"<td>{_tag(crop)}" for crop in line) for line in (crops, apart))
    name = html.escape(pair.name)
    return f"<h2>{name}</h2><table><tr>{heads}<tr>{images}<tr><td>{below}</table>"


def _crops(index: int, pair: Pair, results: Results) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the crops of the truth and of all systems, and those of the systems' differences."""
    truth, *crops = (_crop(image) for image in (pair.high, *(of[index] for of in results.values())))
    return [truth, *crops], [128 + _GAIN * (crop - truth) for crop in crops]


def _crop(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - _SIDE) // 2) for side in image.shape[:2])
    return image[top : top + _SIDE, left : left + _SIDE].astype(np.float64)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _tag(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    _image(pixels).save(buffer, "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
