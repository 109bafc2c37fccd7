"""Line charts as inline SVG: no library, no script, colours from the page's style sheet."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

# The drawing's own units; about the CSS pixels that a chart gets on a phone and at a desk, so that
# its text has the size of the page's.
_WIDTH, _HEIGHT = 360, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 352, 12, 196

# Room above and below what is drawn, as a share of the axis.
_PADDING = 0.05


# Dots around where the pen is: a circle, a square, a triangle and a diamond of about one area.
_SHAPES = (
    "m-3.5,0a3.5,3.5,0,1,0,7,0a3.5,3.5,0,1,0,-7,0",
    "m-3.2,-3.2h6.4v6.4h-6.4",
    "m0,-4.4l4.4,7.6h-8.8",
    "m0,-4.6l4.6,4.6l-4.6,4.6l-4.6,-4.6",
)
SHAPES = len(_SHAPES)


class Point(NamedTuple):
    """A measured point; `error` is the length of its whiskers."""

    x: float
    y: float
    error: float = 0.0


@dataclass(frozen=True)
class Curve:
    """Points joined by a line.

    Attributes:
        name: for the legend; without one the curve is not in it.
        style: a CSS class that sets the colour.
        points: what is joined.
        marked: whether each point shows as a dot with its value, as few points should.
        shape: of the dots, by number: whoever cannot tell colours tells shapes.
    """

    name: str
    style: str
    points: list[Point]
    marked: bool = False
    shape: int = 0


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with, and the CSS class that sets its colour and dashes."""

    name: str
    style: str
    y: float


@dataclass(frozen=True)
class Figure:
    """A chart with its title, and its legend as pairs of a drawn sample and a name."""

    title: str
    svg: Markup
    legend: list[tuple[Markup, str]]


class Axis:
    """Places values on a line from 0 to 1.

    Args:
        values: what must find a place, at least one; positive if `log`.
        padding: room left at both ends, as a share of the axis.
        log: whether equal ratios, and not equal differences, are equally far apart.
    """

    def __init__(self, values: Iterable[float], padding: float = 0.0, log: bool = False) -> None:
        self._scale = math.log10 if log else float
        self._log = log
        places = [self._scale(value) for value in values]
        low, high = min(places), max(places)
        span = (high - low) or abs(low) or 1.0
        self._low, self._span = low - padding * span, (1 + 2 * padding) * span

    def place(self, value: float) -> float:
        """Where `value` lies: 0 at the start of the axis, 1 at its end."""
        return (self._scale(value) - self._low) / self._span

    def ticks(self) -> list[float]:
        """Round values on the axis, about five."""
        if self._log:
            for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
                ticks = self._log_ticks(digits)
                if len(ticks) >= 4:
                    return ticks
            return _round_values(10**self._low, 10 ** (self._low + self._span))
        return _round_values(self._low, self._low + self._span)

    def _log_ticks(self, digits: tuple[int, ...]) -> list[float]:
        magnitudes = range(math.floor(self._low), math.ceil(self._low + self._span) + 1)
        values = [digit * 10.0**magnitude for magnitude in magnitudes for digit in digits]
        return [value for value in values if -1e-9 < self.place(value) < 1 + 1e-9]


def draw(
    title: str, curves: list[Curve], levels: list[Level], *, x_label: str, log: bool = False
) -> Figure:
    """A chart of `curves` over `levels`; the x axis begins at 0.

    Args:
        title: what it shows, in which unit.
        curves: what was measured, at least one point or level in all.
        levels: lines to compare with.
        x_label: stands below the x axis.
        log: whether the y axis is logarithmic; otherwise it shows 0.
    """
    points = [point for curve in curves for point in curve.points]
    heights = [p.y + sign * p.error for p in points for sign in (-1, 1)] + [v.y for v in levels]
    x = Axis([0.0, *(point.x for point in points)])
    y = Axis(heights if log else [0.0, *heights], _PADDING, log)
    parts = [_grid(x, y), _text(_RIGHT, _HEIGHT - 6, x_label, "end")]
    parts += [_level(level, y) for level in levels]
    parts += [_curve(curve, x, y) for curve in curves]
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, title, Markup().join(parts)
    )
    named = [(sample(c.style, c.shape if c.marked else None), c.name) for c in curves if c.name]
    return Figure(title, svg, named + [(sample(v.style), v.name) for v in levels if v.name])


def sample(style: str, shape: int | None = None) -> Markup:
    """A piece of a curve of `style`, with a dot where it has a shape: for legends and names."""
    dot = _dot(shape, style, 11, 5) if shape is not None else Markup()
    svg = Markup('<svg class="sample" viewBox="0 0 22 10" aria-hidden="true">{}{}</svg>')
    return svg.format(_line(0, 5, 22, 5, style), dot)


def _grid(x: Axis, y: Axis) -> Markup:
    parts = [_line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "grid")]
    for tick in y.ticks():
        height = _height(y, tick)
        parts.append(_line(_LEFT, height, _RIGHT, height, "grid" if tick else "zero"))
        parts.append(_text(_LEFT - 6, height + 4, _number(tick), "end"))
    parts += [_text(_across(x, t), _BOTTOM + 16, _number(t), "middle") for t in x.ticks()]
    return Markup().join(parts)


def _level(level: Level, y: Axis) -> Markup:
    height = _height(y, level.y)
    return _line(_LEFT, height, _RIGHT, height, level.style)


def _curve(curve: Curve, x: Axis, y: Axis) -> Markup:
    places = [(_across(x, point.x), _height(y, point.y)) for point in curve.points]
    path = " ".join(f"{across:.1f},{height:.1f}" for across, height in places)
    line = Markup('<polyline class="{}" points="{}"/>').format(curve.style, path)
    if not curve.marked:
        return line
    return line + Markup().join(_mark(point, curve, x, y) for point in curve.points)


def _mark(point: Point, curve: Curve, x: Axis, y: Axis) -> Markup:
    across, height = _across(x, point.x), _height(y, point.y)
    low, high = _height(y, point.y - point.error), _height(y, point.y + point.error)
    whisker = _line(across, low, across, high, curve.style) if point.error else Markup()
    told = f"{curve.name}, {_number(point.x)}: {point.y:.4g}"
    return whisker + _dot(curve.shape, curve.style, across, height, told)


def _dot(shape: int, style: str, across: float, height: float, told: str = "") -> Markup:
    title = Markup("<title>{}</title>").format(told) if told else Markup()
    path = '<path class="dot {}" d="M{:.1f},{:.1f}{}z">{}</path>'
    return Markup(path).format(style, across, height, _SHAPES[shape], title)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    line = '<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
    return Markup(line).format(style, x1, y1, x2, y2)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, text
    )


def _across(x: Axis, value: float) -> float:
    return _LEFT + x.place(value) * (_RIGHT - _LEFT)


def _height(y: Axis, value: float) -> float:
    return _BOTTOM - y.place(value) * (_BOTTOM - _TOP)


def _round_values(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between `low` and `high`, three to eight."""
    most = (high - low) / 3
    magnitude = 10.0 ** math.floor(math.log10(most))
    step = max(m * magnitude for m in (1, 2, 5) if m * magnitude <= most)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    """As few digits as tell it; thousands have a comma, and what is below 0 a true minus."""
    return f"{value:,.10g}".replace("-", "−")
