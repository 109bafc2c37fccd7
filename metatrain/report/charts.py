"""Line charts as inline SVG: colours from the page's style sheet, values in tooltips."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from metatrain.report import svg
from metatrain.report.axis import Axis

# In the drawing's own units, which are about the CSS pixels that a chart gets on a phone and on a
# desk, so that its text has the size of the page's.
_WIDTH, _HEIGHT = 360, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 352, 12, 196

# Room above and below the curves, as a share of the axis.
_PADDING = 0.05

# Paths around the pen's place: a circle, a square, a triangle and a diamond of about one area.
_MARKERS = (
    "m-3.5,0a3.5,3.5,0,1,0,7,0a3.5,3.5,0,1,0,-7,0",
    "m-3.2,-3.2h6.4v6.4h-6.4",
    "m0,-4.4l4.4,7.6h-8.8",
    "m0,-4.6l4.6,4.6l-4.6,4.6l-4.6,-4.6",
)
MARKERS = len(_MARKERS)


class Point(NamedTuple):
    """A point of a curve; `error` is the length of its whiskers."""

    x: float
    y: float
    error: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line through points.

    Attributes:
        name: its name in the legend; without one it is not in the legend.
        style: the CSS classes that set its colour.
        points: its points.
        marker: the number of the marker at each point, whose tooltip shows the value; None for a
            curve of many points. Markers tell curves apart where colours do not.
    """

    name: str
    style: str
    points: list[Point]
    marker: int | None = None


@dataclass(frozen=True, kw_only=True)
class ReferenceLine:
    """A horizontal line to compare curves with; its CSS class sets its colour and dashes."""

    name: str
    style: str
    y: float


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its title, and its legend as pairs of a swatch and a name."""

    title: str
    svg: Markup
    legend: list[tuple[Markup, str]]


def line_chart(
    title: str,
    curves: list[Curve],
    references: list[ReferenceLine],
    *,
    x_label: str,
    log: bool = False,
    log_x: bool = False,
    highest: float = math.inf,
) -> Figure:
    """Draw `curves` over `references`; a linear x axis starts at 0.

    Args:
        title: the quantity of the y axis and its unit.
        curves: the curves; they or the references have at least one point.
        references: the lines to compare them with.
        x_label: the text below the x axis.
        log: whether the y axis is logarithmic; a linear one contains 0.
        log_x: whether the x axis is logarithmic.
        highest: the largest value that there can be on the y axis.
    """
    points = [point for curve in curves for point in curve.points]
    heights = [p.y + sign * p.error for p in points for sign in (-1, 1)]
    heights += [reference.y for reference in references]
    across = [point.x for point in points]
    x = Axis(across, log=True) if log_x else Axis([0.0, *across])
    y = Axis(heights if log else [0.0, *heights], padding=_PADDING, log=log, highest=highest)
    parts = [_grid(x, y), svg.text(_RIGHT, _HEIGHT - 6, x_label, anchor="end")]
    parts += [_horizontal(_height(y, r.y), r.style) for r in references]
    parts += [_curve(curve, x, y) for curve in curves]
    legend = [(swatch(curve.style, curve.marker), curve.name) for curve in curves if curve.name]
    legend += [(swatch(r.style), r.name) for r in references if r.name]
    chart = svg.drawing(_WIDTH, _HEIGHT, label=title, parts=parts)
    return Figure(title=title, svg=chart, legend=legend)


def swatch(style: str, marker: int | None = None) -> Markup:
    """Draw a short piece of a curve of `style`, for legends and beside names."""
    dot = Markup() if marker is None else _marker(marker, style, 11, 5)
    element = '<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true">{}{}</svg>'
    return Markup(element).format(svg.line(0, 5, 22, 5, style=style), dot)


def _grid(x: Axis, y: Axis) -> Markup:
    parts = [_horizontal(_BOTTOM, "grid")]
    for tick in y.ticks():
        height = _height(y, tick)
        parts.append(_horizontal(height, "grid" if tick else "zero"))
        parts.append(svg.text(_LEFT - 6, height + 4, svg.number(tick), anchor="end"))
    for tick in x.ticks():
        parts.append(svg.text(_across(x, tick), _BOTTOM + 16, svg.number(tick), anchor="middle"))
    return Markup().join(parts)


def _horizontal(height: float, style: str) -> Markup:
    return svg.line(_LEFT, height, _RIGHT, height, style=style)


def _curve(curve: Curve, x: Axis, y: Axis) -> Markup:
    places = [(_across(x, point.x), _height(y, point.y)) for point in curve.points]
    parts = [svg.polyline(places, style=curve.style)]
    if curve.marker is not None:
        parts += [_marked(point, curve, curve.marker, x, y) for point in curve.points]
    return Markup().join(parts)


def _marked(point: Point, curve: Curve, marker: int, x: Axis, y: Axis) -> Markup:
    """Draw the marker of a point with its whiskers and its tooltip."""
    across, height = _across(x, point.x), _height(y, point.y)
    low, high = _height(y, point.y - point.error), _height(y, point.y + point.error)
    whiskers = svg.line(across, low, across, high, style=curve.style) if point.error else Markup()
    tooltip = f"{curve.name}, {svg.number(point.x)}: {point.y:.4g}"
    return whiskers + _marker(marker, curve.style, across, height, tooltip)


def _marker(marker: int, style: str, across: float, height: float, tooltip: str = "") -> Markup:
    path = '<path class="marker {}" d="M{:.1f},{:.1f}{}z">{}</path>'
    return Markup(path).format(style, across, height, _MARKERS[marker], svg.title(tooltip))


def _across(x: Axis, value: float) -> float:
    return _LEFT + x.place(value) * (_RIGHT - _LEFT)


def _height(y: Axis, value: float) -> float:
    return _BOTTOM - y.place(value) * (_BOTTOM - _TOP)
