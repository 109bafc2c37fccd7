"""The charts of a run's report: the losses of training, and the scores of adapting."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.scores.baselines import COPY, REAL
from metatrain.metrics.metric import METRICS
from metatrain.report.charts import Curve, Figure, Point, ReferenceLine, line_chart
from metatrain.training.state import Record

# The baselines that charts show.
_BASELINES = (COPY, REAL)


class ChartedMetric(NamedTuple):
    """A metric of charts: its key, the title of its chart, and the factor of its scores there."""

    key: str
    title: str
    factor: float

    @property
    def highest(self) -> float:
        """The largest value that there can be in the chart."""
        return self.factor * METRICS[self.key].highest


CHARTED_METRICS = (
    ChartedMetric("kid", "KID, lower is better", 1),
    ChartedMetric("own_task", "Own-task share in %, higher is better", 100),
)


def training_figures(history: list[Record]) -> list[Figure]:
    """Draw the training loss over the outer steps; no figure if no history was kept."""
    names = {"inner_first": "before the inner loop", "inner_last": "before its last step"}
    if not any("inner_first" in record for record in history):
        names = {"loss": "loss"}
    losses = {
        key: _finite([Point(record["step"], record[key]) for record in history if key in record])
        for key in names
    }
    values = [point.y for points in losses.values() for point in points]
    if not values:
        return []
    log = min(values) > 0
    curves = [Curve(name="", style=f"{k} faint", points=points) for k, points in losses.items()]
    curves += [
        Curve(name=names[key], style=key, points=_running_mean(points))
        for key, points in losses.items()
    ]
    title = f"Training loss, {'log' if log else 'linear'} scale, with running mean"
    return [line_chart(title, curves, [], x_label="outer steps", log=log)]


def _running_mean(points: list[Point]) -> list[Point]:
    """Average each point with its neighbours, a twentieth of all points."""
    reach = len(points) // 40
    windows = [points[max(0, i - reach) : i + reach + 1] for i in range(len(points))]
    return [
        Point(point.x, sum(p.y for p in window) / len(window))
        for point, window in zip(points, windows, strict=True)
    ]


def score_figures(evaluation: Evaluation) -> list[Figure]:
    """Draw KID and own-task share over the inner steps, and over the seconds that these take."""
    curve = evaluation.result.curve
    places = {
        "inner steps": {n: float(n) for n in curve},
        "seconds of adapting": {n: point.seconds for n, point in curve.items()},
    }
    return [
        _score_figure(evaluation, metric, xs, x_label)
        for metric in CHARTED_METRICS
        for x_label, xs in places.items()
    ]


def expectation_figures(evaluation: Evaluation) -> list[Figure]:
    """Draw each task's own-task share over the predicted one; no figure without predictions."""
    quality = evaluation.expectation_quality
    if quality is None:
        return []
    pairs = zip(quality.expected, quality.measured, strict=True)
    tasks = [Point(100 * expected, 100 * measured) for expected, measured in pairs]
    curves = [
        Curve(name="as predicted", style="equal", points=[Point(0, 0), Point(100, 100)]),
        Curve(name="a task", style="model points", points=tasks, marker=0),
    ]
    return [
        line_chart("Own-task share in %, measured", curves, [], x_label="predicted", highest=100.0)
    ]


def _score_figure(
    evaluation: Evaluation, metric: ChartedMetric, places: Mapping[int, float], x_label: str
) -> Figure:
    """Draw a metric over the `places` of the numbers of inner steps."""
    points = []
    for steps, curve_point in sorted(evaluation.result.curve.items()):
        score = curve_point.scores[metric.key]
        error = metric.factor * (score.high - score.low) / 2
        points.append(Point(places[steps], metric.factor * score.value, error))
    curve = Curve(name="the model", style="model", points=_finite(points), marker=0)
    references = baseline_references(evaluation, metric)
    return line_chart(metric.title, [curve], references, x_label=x_label, highest=metric.highest)


def baseline_references(evaluation: Evaluation, metric: ChartedMetric) -> list[ReferenceLine]:
    """Build a line for the score of each baseline."""
    space = evaluation.spaces[0].name
    references = [
        ReferenceLine(name=name, style=name.replace(" ", "-"), y=metric.factor * value)
        for name in _BASELINES
        if math.isfinite(value := evaluation.results[name].scores[space][metric.key].value)
    ]
    # Real images first: where copy-support equals them, its dots show on top of their dashes.
    return references[::-1]


def _finite(points: list[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.y + point.error)]
