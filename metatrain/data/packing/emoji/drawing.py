"""Rendering emoji in colour, on a transparent ground."""

import io

import numpy as np
from PIL import Image

from metatrain.data.images import BadImage
from metatrain.data.packing.icons.sets import Icon
from metatrain.data.svg import BadDrawing, render_svg

_SIDE = 16


def draw_png(icon: Icon, size: int) -> bytes:
    """Render the icon as a square RGBA PNG file, filled by its longer side.

    Threads may render at the same time.

    Raises:
        BadImage: when its SVG is malformed, or asks for more than a drawing may.
        UserError: when no renderer is installed.
    """
    box = " ".join(f"{number:g}" for number in icon.box)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{size}" height="{size}" viewBox="{box}">{icon.body}</svg>'
    )
    try:
        return render_svg(svg.encode(), size)
    except BadDrawing as error:
        raise BadImage("corrupt or truncated", str(error)) from error


def colours_of(png: bytes) -> np.ndarray:
    """Return the colours of 16 x 16 cells on white, uint8 [256, 3], to compare drawings by."""
    image = Image.open(io.BytesIO(png), formats=("PNG",)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    plain = Image.alpha_composite(white, image).convert("RGB")
    return np.asarray(plain.resize((_SIDE, _SIDE), Image.Resampling.BOX)).reshape(-1, 3)
