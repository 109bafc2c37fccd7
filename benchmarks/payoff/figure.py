"""The figure of the payoff: quality over training compute, and over adapting."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import resvg_py
from markupsafe import Markup

from benchmarks.payoff.groups import KID, OWN_TASK, Group
from benchmarks.payoff.plan import SCRATCH
from metatrain.evaluation.scores.statistics import Score
from metatrain.report.charts import MARKERS, Curve, Figure, Point, ReferenceLine, line_chart

_COLOURS = ("#2a52e0", "#c07510", "#2a9494", "#1c1156", "#8c1a52", "#574900")
_WIDTH, _HEIGHT, _GAP, _TITLE, _LEGEND = 360, 236, 24, 22, 30
# A logarithmic axis has no room for a KID of 0 or below: such points are at this height.
LEAST_KID = 0.001
_ZOOM = 2.5
_TITLES = {KID: "KID", OWN_TASK: "own task in %"}

_STYLE = """\
text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #6a6d73; }
text.title { font-size: 12px; fill: #22252a; }
.grid { stroke: #e6e3dc; stroke-width: 1; } .zero { stroke: #6a6d73; stroke-width: 1; }
line { stroke-width: 1.5; } polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg { overflow: visible; } path.marker { stroke: #ffffff; stroke-width: 1; }
.real { stroke: #6a6d73; stroke-dasharray: 7 4; }
"""


def payoff_svg(
    groups: Sequence[Group], real: Mapping[str, Mapping[str, Score]], methods: Sequence[str]
) -> str:
    """Draw the figure: a row of charts for each data set and score.

    Args:
        groups: the cells that are done, at least one.
        real: the scores of held-out real images by data set.
        methods: all methods; a method has the same colour in every figure.
    """
    style = {method: number for number, method in enumerate(methods)}
    rows = []
    for data in dict.fromkeys(group.data for group in groups):
        same = [group for group in groups if group.data == data]
        for name in (KID, OWN_TASK):
            rows.append(_row(data, same, name, real[data][name].value, style))
    return _composed(rows)


def payoff_png(svg: str) -> bytes:
    """Render the figure."""
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


def _row(
    data: str, groups: Sequence[Group], name: str, real: float, style: Mapping[str, int]
) -> list[Figure]:
    """Draw a score over training compute, and over the inner steps at the largest budget."""
    log, title = name == KID, f"{data}: {_TITLES[name]}"
    trained = [group for group in groups if group.method != SCRATCH]
    scratch = [group for group in groups if group.method == SCRATCH]
    largest = max((group.tflop for group in trained), default=0.0)
    ceiling = ReferenceLine(name="held-out real", style="real", y=_height(real, log))
    levels = [_level(g.after_all[name].value, style[g.method], log) for g in scratch]
    over_budget = [
        _curve(method, style, {g.tflop: g.after_all[name].value for g in same}, log)
        for method, same in _by_method(trained).items()
    ]
    over_steps = [
        _curve(g.method, style, {k: s[name].value for k, s in g.scores.items() if k}, log)
        for g in [*(group for group in trained if group.tflop == largest), *scratch]
    ]
    charts = [
        (f"{title}, {groups[0].last} inner steps", over_budget, levels, "TFLOP of training"),
        (f"{title}, {largest:g} TFLOP of training", over_steps, [], "inner steps"),
    ]
    return [
        line_chart(name, curves, [ceiling, *lines], x_label=x_label, log=log, log_x=True)
        for name, curves, lines, x_label in charts
        if curves
    ]


def _by_method(groups: Sequence[Group]) -> dict[str, list[Group]]:
    methods = dict.fromkeys(group.method for group in groups)
    return {method: [g for g in groups if g.method == method] for method in methods}


def _curve(
    method: str, style: Mapping[str, int], values: Mapping[float, float], log: bool
) -> Curve:
    number = style[method]
    heights = [Point(x, _height(y, log)) for x, y in values.items()]
    return Curve(name=method, style=_class(number), points=heights, marker=number % MARKERS)


def _level(value: float, number: int, log: bool) -> ReferenceLine:
    """Make the line of a method without a budget; the other chart has its name."""
    return ReferenceLine(name="", style=_class(number), y=_height(value, log))


def _height(value: float, log: bool) -> float:
    return max(value, LEAST_KID) if log else 100 * value


def _class(number: int) -> str:
    return f"method-{number % len(_COLOURS)}"


def _composed(rows: Sequence[Sequence[Figure]]) -> str:
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
