"""Outlines of drawings in black on white, as cubic curves.

The outline is where the grey is halfway: marching squares (contourpy) place it between pixels, so
that smooth edges give smooth curves. Its corners are the control points of a quadratic B-spline,
whose pieces fontTools joins to few cubic curves.
"""

from typing import cast

import numpy as np
from contourpy import contour_generator
from fontTools.misc.transform import Transform
from fontTools.pens.basePen import AbstractPen
from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.pens.transformPen import TransformPen
from fontTools.qu2cu import quadratic_to_curves
from PIL import Image

# The most that joined curves are away from the outline, in pixels.
_TOLERANCE = 0.1
# Corners whose pieces are joined at a time: the time of joining grows with their square.
_SECTION = 16
# Specks are no part of a drawing: corners of the shortest outline.
_LEAST = 8


def trace(picture: Image.Image, pen: AbstractPen) -> None:
    """Draw the outlines of the black in a picture with a pen of fontTools.

    Coordinates are pixels from the upper left corner, down and to the right. Black has the same
    side of all outlines, so that holes stay holes where the winding is not zero.

    Args:
        picture: grey, or made grey.
        pen: is given closed paths.
    """
    # Around it all is white, so that every outline is closed.
    ink = np.pad(255.0 - np.asarray(picture.convert("L"), dtype=float), 1)
    # The centre of the first pixel is at 1 in `ink`, and at 1/2 in the picture.
    placed = TransformPen(pen, Transform(1, 0, 0, 1, -0.5, -0.5))
    for line in contour_generator(z=ink).lines(127.5):
        corners = np.asarray(line)[:-1]
        if len(corners) >= _LEAST:
            _draw(corners, placed)


def _draw(corners: np.ndarray, pen: AbstractPen) -> None:
    """Draw one closed outline.

    Args:
        corners: [N, 2], of a polygon.
        pen: draws it.
    """
    following = np.roll(corners, -1, axis=0)
    between = (corners + following) / 2
    pen.moveTo(tuple(between[0]))
    for begin in range(0, len(corners), _SECTION):
        end = min(begin + _SECTION, len(corners))
        spline = [between[begin], *following[begin:end], between[end % len(corners)]]
        points = [(float(x), float(y)) for x, y in spline]
        for curve in quadratic_to_curves([points], max_err=_TOLERANCE, all_cubic=True):
            # Typed for complex numbers too.
            pen.curveTo(*cast("tuple[tuple[float, float], ...]", curve[1:]))
    pen.closePath()


def svg_of(picture: Image.Image) -> bytes:
    """Return an SVG file of the outlines of the black in a picture."""
    pen = SVGPathPen(None, ntos=lambda number: f"{number:.2f}".rstrip("0").rstrip("."))
    trace(picture, pen)
    width, height = picture.size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f'<path d="{pen.getCommands()}"/></svg>\n'
    ).encode()
