"""Rendering icons, black on white, from SVG that contains nothing but harmless elements."""

import io
import math
import re
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.data.packing.icons.sets import Icon

# Shapes, clips and shades: nothing that is downloaded, moves, or is rendered many times.
_ELEMENTS = frozenset(
    [
        "svg",
        "g",
        "path",
        "circle",
        "ellipse",
        "rect",
        "line",
        "polygon",
        "polyline",
        "defs",
        "mask",
        "clipPath",
        "linearGradient",
        "radialGradient",
        "stop",
        "title",
    ]
)
_STENCILS = ("mask", "clipPath")
_REFUSED = frozenset(("style", "href", "filter"))
_OWN_URL = re.compile(r"url\(#[\w-]+\)")
# More than 99.9% of the icons are smaller.
_BODY_CHARACTERS, _BODY_ELEMENTS = 8_000, 200
_SIDE = 4096.0
_SVG = "http://www.w3.org/2000/svg"


def draw(icon: Icon, size: int) -> Image.Image:
    """Render the icon as a square 'L' image, black on white, filled by its longer side.

    Threads may render at the same time.

    Raises:
        BadImage: when its SVG is malformed, or contains more than shapes.
        UserError: when no renderer is installed.
    """
    svg = _svg(icon, size)
    try:
        import resvg_py
    except ImportError as error:
        raise UserError(
            "icons need resvg_py, which is not installed; pip install 'metatrain[icons]'."
        ) from error
    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, background="white", skip_system_fonts=True)
    except ValueError as error:
        raise BadImage("corrupt or truncated", str(error)) from error
    return Image.open(io.BytesIO(png), formats=("PNG",)).convert("L")


def draw_png(icon: Icon, size: int) -> bytes:
    """Render the icon as a PNG file."""
    buffer = io.BytesIO()
    draw(icon, size).save(buffer, "PNG")
    return buffer.getvalue()


def fingerprint(image: Image.Image) -> np.ndarray:
    """Return which of 16 x 16 cells have ink, bool [256], to compare by Hamming distance."""
    small = np.asarray(image.resize((16, 16), Image.Resampling.BOX))
    return (small < 192).reshape(-1)


def _svg(icon: Icon, size: int) -> str:
    left, top, width, height = icon.box
    if not all(math.isfinite(number) for number in icon.box) or not (
        0 < width <= _SIDE and 0 < height <= _SIDE
    ):
        raise BadImage("no size", f"{width} x {height}")
    if len(icon.body) > _BODY_CHARACTERS:
        raise BadImage("huge", f"{len(icon.body):,} characters")
    # The canvas is square; the icon keeps its own shape within.
    svg = (
        f'<svg xmlns="{_SVG}" width="{size}" height="{size}" '
        f'viewBox="{left} {top} {width} {height}" color="black">{icon.body}</svg>'
    )
    _refuse_more_than_shapes(svg)
    return svg


def _refuse_more_than_shapes(svg: str) -> None:
    try:
        # A body is inside an element, where neither entities nor a document type can be declared.
        root = ElementTree.fromstring(svg)
    except (ElementTree.ParseError, ValueError) as error:
        raise BadImage("corrupt or truncated", str(error)) from error
    elements = list(root.iter())
    if len(elements) > _BODY_ELEMENTS:
        raise BadImage("huge", f"{len(elements)} elements")
    for element in elements:
        _refuse_element(element)
        if _name(element) in _STENCILS:
            # References between them could take time without bound.
            for inner in element.iter():
                if any("url(" in value for key, value in inner.attrib.items()):
                    raise BadImage("more than shapes", "a mask of masks")


def _refuse_element(element: ElementTree.Element) -> None:
    if element.tag.partition("}")[0] != f"{{{_SVG}" or _name(element) not in _ELEMENTS:
        raise BadImage("more than shapes", f"element {_name(element)}")
    for key, value in element.attrib.items():
        rest = _OWN_URL.sub("", value)
        if key.rpartition("}")[2] in _REFUSED or "url(" in rest.lower() or "\\" in value:
            raise BadImage("more than shapes", f"attribute {key}")


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
