"""A page with crops side by side: of every system, and of its difference to the truth."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from benchmarks.super_resolution.sets import Pair

# Side of a crop in pixels, and by how much differences are multiplied.
_SIDE, _GAIN = 96, 4

_STYLE = (
    "body{font:15px sans-serif;margin:2em}td{padding:3px}img{width:192px;image-rendering:pixelated}"
)


def page(pairs: Sequence[Pair], results: Mapping[str, Sequence[np.ndarray]], table: str) -> str:
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


def _rows(index: int, pair: Pair, results: Mapping[str, Sequence[np.ndarray]]) -> str:
    truth = _crop(pair.high.astype(np.float64))
    crops = {name: _crop(images[index]) for name, images in results.items()}
    heads = "".join(f"<th>{html.escape(name)}" for name in ("truth", *crops))
    images = "".join(f"<td>{_image(crop)}" for crop in (truth, *crops.values()))
    apart = "".join(f"<td>{_image(128 + _GAIN * (crop - truth))}" for crop in crops.values())
    name = html.escape(pair.name)
    return f"<h2>{name}</h2><table><tr>{heads}<tr>{images}<tr><td>{apart}</table>"


def _crop(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - _SIDE) // 2) for side in image.shape[:2])
    return image[top : top + _SIDE, left : left + _SIDE]


def _image(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(buffer, "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
