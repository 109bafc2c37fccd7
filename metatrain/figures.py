"""The curves of a report: what training did, and what adapting does."""

import math

from metatrain.charts import Curve, Figure, Level, Point, draw
from metatrain.evaluation.baselines import COPY, REAL
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.statistics import Estimate
from metatrain.trainer import Record

# Baselines that a chart shows.
BESIDE = (COPY, REAL)


def training_figures(history: list[Record]) -> list[Figure]:
    """The training loss over the outer steps; no figure where no history was kept."""
    names = {"inner_first": "before the inner loop", "inner_last": "before its last step"}
    if not any("inner_first" in record for record in history):
        names = {"loss": "loss"}
    each = {
        key: _finite([Point(record["step"], record[key]) for record in history if key in record])
        for key in names
    }
    values = [point.y for points in each.values() for point in points]
    if not values:
        return []
    log = min(values) > 0
    curves = [Curve("", f"{key} faint", points) for key, points in each.items()]
    curves += [Curve(names[key], key, _running_mean(points)) for key, points in each.items()]
    title = f"Training loss, {'log' if log else 'linear'} scale, with running mean"
    return [draw(title, curves, [], x_label="outer steps", log=log)]


def _running_mean(points: list[Point]) -> list[Point]:
    """Every point's mean with its neighbours, a twentieth of all."""
    reach = len(points) // 40
    around = [points[max(0, i - reach) : i + reach + 1] for i in range(len(points))]
    return [
        Point(point.x, sum(p.y for p in near) / len(near))
        for point, near in zip(points, around, strict=True)
    ]


def kid_figure(evaluation: Evaluation) -> Figure:
    """KID over the inner steps with its intervals, and the baselines."""
    return _score_figure("KID, lower is better", evaluation, "kid", 1)


def share_figure(evaluation: Evaluation) -> Figure:
    """Own-task share over the inner steps with its intervals, and the baselines."""
    return _score_figure("Own-task share in %, higher is better", evaluation, "own_task", 100)


def _score_figure(title: str, evaluation: Evaluation, metric: str, unit: float) -> Figure:
    space = evaluation.spaces[0].name
    points = [
        Point(n, unit * e.value, unit * (e.high - e.low) / 2)
        for n, e in _estimates(evaluation, metric)
    ]
    curve = Curve("the model", "model", _finite(points), marked=True)
    baselines = {name: evaluation.results[name].scores[space][metric].value for name in BESIDE}
    levels = [
        Level(name, name.replace(" ", "-"), unit * value)
        for name, value in baselines.items()
        if math.isfinite(value)
    ]
    # The ceiling first, since it may equal copy-support, whose dots show on top of its dashes.
    return draw(title, [curve], levels[::-1], x_label="inner steps")


def _estimates(evaluation: Evaluation, metric: str) -> list[tuple[int, Estimate]]:
    curve = sorted(evaluation.result.curve.items())
    return [(steps, point.scores[metric]) for steps, point in curve]


def _finite(points: list[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.y + point.error)]
