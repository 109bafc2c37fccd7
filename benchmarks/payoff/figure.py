"""The figure of the payoff: quality over training compute, and over adapting."""

from collections.abc import Mapping, Sequence

from benchmarks.figures import composed, series_style
from benchmarks.payoff.groups import KID, OWN_TASK, Group
from benchmarks.payoff.plan import SCRATCH
from metatrain.evaluation.scores.statistics import Score
from metatrain.report.charts import MARKERS, Curve, Figure, Point, ReferenceLine, line_chart

# A logarithmic axis has no room for a KID of 0 or below: such points are at this height.
LEAST_KID = 0.001
_TITLES = {KID: "KID", OWN_TASK: "own task in %"}


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
    return composed(rows)


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
    return Curve(name=method, style=series_style(number), points=heights, marker=number % MARKERS)


def _level(value: float, number: int, log: bool) -> ReferenceLine:
    """Make the line of a method without a budget; the other chart has its name."""
    return ReferenceLine(name="", style=series_style(number), y=_height(value, log))


def _height(value: float, log: bool) -> float:
    return max(value, LEAST_KID) if log else 100 * value
