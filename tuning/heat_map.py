"""Heat maps over the inner rate and the number of inner steps, both on logarithmic axes."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from metatrain.report import svg
from metatrain.report.axis import Axis

# In the drawing's own units: its size, and the place of the map.
_WIDTH, _HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 360, 26, 260

# The colours of the legend's bar.
_LEGEND_CELLS = 20


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A quantity over two axes.

    Attributes:
        title: the quantity.
        key: the name of the x axis; the y axis is k, the number of inner steps.
        xs: the values of the columns, [C].
        ks: the values of the rows, [R], from the bottom up.
        values: the quantity in each cell, [R, C].
        tried: the places that trials were at, which show as circles.
    """

    title: str
    key: str
    xs: NDArray[np.floating]
    ks: NDArray[np.floating]
    values: NDArray[np.floating]
    tried: list[tuple[float, float]]

    def draw(self) -> Markup:
        """Draw the cells, the circles, the axes and the legend."""
        across = Axis([self.xs[0], self.xs[-1]], log=True)
        up = Axis([self.ks[0], self.ks[-1]], log=True)
        parts = [
            svg.text(_LEFT, _TOP - 10, self.title, anchor="start"),
            svg.text(6, _TOP - 10, "k", anchor="start"),
            *self._cells(),
            *(_circle(_x(across, x), _y(up, k)) for x, k in self.tried),
            *_axes(across, up),
            svg.text(_RIGHT, _BOTTOM + 32, self.key, anchor="end"),
            *self._legend(),
        ]
        label = f"{self.title} over {self.key} and the number of inner steps"
        return svg.drawing(_WIDTH, _HEIGHT, label=label, parts=parts)

    def _cells(self) -> list[Markup]:
        rows, columns = self.values.shape
        wide, tall = (_RIGHT - _LEFT) / columns, (_BOTTOM - _TOP) / rows
        low, span = self.values.min(), np.ptp(self.values) or 1.0
        cells = []
        for row, column in np.ndindex(rows, columns):
            value = self.values[row, column]
            tooltip = f"{self.key} {self.xs[column]:.3g}, k {self.ks[row]:.3g}: {value:.4g}"
            x, y = _LEFT + column * wide, _BOTTOM - (row + 1) * tall
            cells.append(_cell(x, y, wide, tall, share=(value - low) / span, tooltip=tooltip))
        return cells

    def _legend(self) -> list[Markup]:
        tall = (_BOTTOM - _TOP) / _LEGEND_CELLS
        bar = [
            _cell(_RIGHT + 16, _BOTTOM - (i + 1) * tall, 12, tall, share=(i + 0.5) / _LEGEND_CELLS)
            for i in range(_LEGEND_CELLS)
        ]
        ends = [(_BOTTOM, self.values.min()), (_TOP + 8, self.values.max())]
        return bar + [svg.text(_RIGHT + 33, y, f"{v:.3g}", anchor="start") for y, v in ends]


def _axes(across: Axis, up: Axis) -> list[Markup]:
    below = [
        svg.text(_x(across, tick), _BOTTOM + 16, svg.number(tick), anchor="middle")
        for tick in across.ticks()
    ]
    beside = [
        svg.text(_LEFT - 6, _y(up, tick) + 4, svg.number(tick), anchor="end") for tick in up.ticks()
    ]
    return below + beside


def _cell(
    x: float, y: float, wide: float, tall: float, *, share: float, tooltip: str = ""
) -> Markup:
    """Draw a cell with the colour of `share`, from 0 for the lowest value to 1 for the highest."""
    # Slightly larger, so that the page does not show between two cells.
    place = Markup('x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"')
    element = Markup('<rect {} fill="{}">{}</rect>')
    colour = to_hex(colormaps["viridis"](float(share)))
    return element.format(place.format(x, y, wide + 0.3, tall + 0.3), colour, svg.title(tooltip))


def _circle(x: float, y: float) -> Markup:
    return Markup('<circle class="tried" cx="{:.1f}" cy="{:.1f}" r="2"/>').format(x, y)


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (_RIGHT - _LEFT)


def _y(axis: Axis, value: float) -> float:
    return _BOTTOM - axis.place(value) * (_BOTTOM - _TOP)
