"""Figures of pages: charts in rows with one legend, and their PNG."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import resvg_py
from markupsafe import Markup

from metatrain.report.charts import Figure

_COLOURS = ("#2a52e0", "#c07510", "#2a9494", "#1c1156", "#8c1a52", "#574900")
_WIDTH, _HEIGHT, _GAP, _TITLE, _LEGEND = 360, 236, 24, 22, 30
_ZOOM = 2.5

_STYLE = """\
text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #6a6d73; }
text.title { font-size: 12px; fill: #22252a; }
.grid { stroke: #e6e3dc; stroke-width: 1; } .zero { stroke: #6a6d73; stroke-width: 1; }
line { stroke-width: 1.5; } polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg { overflow: visible; } path.marker { stroke: #ffffff; stroke-width: 1; }
.real { stroke: #6a6d73; stroke-dasharray: 7 4; }
"""


def series_style(number: int) -> str:
    """Return the CSS class of a series; the same number has the same colour everywhere."""
    return f"method-{number % len(_COLOURS)}"


def composed(rows: Sequence[Sequence[Figure]]) -> str:
    """Place the charts in rows with their titles, and one legend of all below them."""
    width = max(len(row) for row in rows) * (_WIDTH + _GAP) + _GAP
    parts, y = [], 0
    legend: dict[str, Markup] = {}
    for row in rows:
        for column, figure in enumerate(row):
            x = _GAP + column * (_WIDTH + _GAP)
            parts.append(_title(x, y + 16, figure.title))
            parts.append(_placed(figure.svg, x, y + _TITLE, _WIDTH, _HEIGHT))
            legend |= {name: swatch for swatch, name in figure.legend}
        y += _TITLE + _HEIGHT + _GAP // 2
    x = _GAP
    for name, swatch in legend.items():
        parts += [_placed(swatch, x, y + 4, 22, 10), _title(x + 28, y + 13, name)]
        x += 28 + 7 * len(name) + _GAP
    colours = "".join(
        f".method-{i} {{ stroke: {c}; }} path.marker.method-{i} {{ fill: {c}; stroke: #ffffff; }}\n"
        for i, c in enumerate(_COLOURS)
    )
    height = y + _LEGEND
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}">'
        '<style>{2}</style><rect width="100%" height="100%" fill="#ffffff"/>{3}</svg>\n'
    ).format(max(width, x), height, Markup(_STYLE + colours), Markup().join(parts))


def _title(x: float, y: float, content: str) -> Markup:
    return Markup('<text class="title" x="{}" y="{}">{}</text>').format(x, y, content)


def _placed(drawing: Markup, x: float, y: float, width: float, height: float) -> Markup:
    # A label may be wider than its chart.
    element = '<svg x="{}" y="{}" width="{}" height="{}" overflow="visible">{}</svg>'
    return Markup(element).format(x, y, width, height, drawing)


def png(svg: str) -> bytes:
    """Render a figure."""
    fonts = [str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))]
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            zoom=_ZOOM,
            skip_system_fonts=True,
            font_files=fonts,
            font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans",
        )
    )
