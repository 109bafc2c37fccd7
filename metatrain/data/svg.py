"""Drawings in SVG, rendered by resvg; a stranger's is looked through before."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from metatrain.base.errors import UserError

_MOST_BYTES, _MOST_ELEMENTS = 4_000_000, 100_000
_LEAST_SIDE, _MOST_SIDE = 256, 4096
# Names an element of the same file; anything else would be read from the disk.
_REFERENCE = re.compile(r"url\(\s*['\"]?#([^'\")]+)['\"]?\s*\)")
_LENGTH = re.compile(r"\s*(\d*\.?\d+(?:e[+-]?\d+)?)\s*(px)?\s*", re.I)
_OPENING = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:svg|\?xml|!--|!DOCTYPE)")


class BadDrawing(Exception):  # noqa: N818
    """A drawing that cannot be rendered, or that asks for more than a drawing may."""


def is_svg(data: bytes) -> bool:
    """Tell whether `data` looks like an SVG file."""
    return _OPENING.match(data) is not None and b"<svg" in data[:10_000]


def render_svg(data: bytes, size: int | None) -> bytes:
    """Render an SVG file as a PNG file, transparent where nothing is drawn.

    Args:
        data: the file.
        size: pixels of the shorter side; None takes the size that the drawing has, or 256, since
            what is small for its paper is not meant to be blurred.

    Raises:
        BadDrawing: when it is malformed, names other files, or grows without bound.
        UserError: when no renderer is installed.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise UserError(
            "SVG needs resvg_py, which is not installed; pip install 'metatrain[icons]'."
        ) from error
    if len(data) > _MOST_BYTES:
        raise BadDrawing(f"{len(data):,} bytes")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadDrawing(str(error)) from error
    _refuse_bombs(root)
    width, height = _extent(root)
    zoom = (size or max(_LEAST_SIDE, min(width, height))) / min(width, height)
    if max(width, height) * zoom > _MOST_SIDE:
        raise BadDrawing(f"{width * zoom:.0f} x {height * zoom:.0f} pixels")
    try:
        text = ElementTree.tostring(root, encoding="unicode")
        return bytes(resvg_py.svg_to_bytes(svg_string=text, zoom=zoom, skip_system_fonts=True))
    except ValueError as error:
        raise BadDrawing(str(error)) from error


def _extent(root: ElementTree.Element) -> tuple[float, float]:
    """Return the width and height that a drawing has, in pixels."""
    sides = [_LENGTH.fullmatch(root.get(side, "")) for side in ("width", "height")]
    box = re.split(r"[\s,]+", root.get("viewBox", "").strip())
    try:
        _, _, *boxed = (float(number) for number in box)
        boxed = boxed if len(boxed) == 2 else [100.0, 100.0]
    except ValueError:
        boxed = [100.0, 100.0]
    width, height = (float(s[1]) if s else b for s, b in zip(sides, boxed, strict=True))
    if not (1e-3 < width < 1e6 and 1e-3 < height < 1e6):
        raise BadDrawing(f"{width:g} x {height:g} pixels")
    return width, height


def _refuse_bombs(root: ElementTree.Element) -> None:
    """Refuse a drawing that names files, or whose references unfold to too many elements."""
    elements = list(root.iter())
    if len(elements) > _MOST_ELEMENTS:
        raise BadDrawing(f"{len(elements):,} elements")
    named = {element.get("id"): element for element in elements if element.get("id")}
    if _unfolded(root, named, {}, ()) > _MOST_ELEMENTS:
        raise BadDrawing("its references unfold to too many elements")


def _unfolded(
    element: ElementTree.Element,
    named: Mapping[Any, ElementTree.Element],
    known: dict[ElementTree.Element, int],
    above: tuple[ElementTree.Element, ...],
) -> int:
    """Count the elements that `element` stands for, with those that it refers to."""
    if element in above or len(above) > 200:
        raise BadDrawing("it refers to itself, or too deep")
    if element not in known:
        parts = [*element, *(named[name] for name in _references(element) if name in named)]
        inner = (*above, element)
        known[element] = 1 + sum(_unfolded(part, named, known, inner) for part in parts)
    return known[element]


def _references(element: ElementTree.Element) -> Iterator[str]:
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == "href" and not value.startswith("data:image/"):
            if not value.startswith("#") and element.tag.rpartition("}")[2] not in ("a", "script"):
                raise BadDrawing("it names another file")
            yield value[1:]
        yield from _REFERENCE.findall(value)
