"""The charts of a comparison: the scores of all runs over their cost."""

import math
from collections.abc import Callable, Sequence

from metatrain.evaluation.results import CurvePoint
from metatrain.report.charts import Curve, Figure, Point, line_chart
from metatrain.report.compared_runs import ComparedRun
from metatrain.report.run_figures import CHARTED_METRICS, ChartedMetric, baseline_references
from metatrain.report.validation_curves import ValidationCurve


def adapting_figures(runs: Sequence[ComparedRun]) -> list[Figure]:
    """Draw KID and own-task share over the inner steps, and over the seconds that these take."""
    places: dict[str, Callable[[int, CurvePoint], float]] = {
        "inner steps": lambda steps, point: steps,
        "seconds of adapting": lambda steps, point: point.seconds,
    }
    return [
        _adapting_figure(runs, metric, place, x_label)
        for metric in CHARTED_METRICS
        for x_label, place in places.items()
    ]


def _adapting_figure(
    runs: Sequence[ComparedRun],
    metric: ChartedMetric,
    place: Callable[[int, CurvePoint], float],
    x_label: str,
) -> Figure:
    curves = []
    for run in runs:
        points = [
            Point(place(steps, point), metric.factor * point.scores[metric.key].value)
            for steps, point in sorted(run.result.curve.items())
        ]
        curves.append(_curve(run, points))
    references = baseline_references(runs[0].evaluation, metric)
    return line_chart(metric.title, curves, references, x_label=x_label, highest=metric.highest)


def training_figures(curves: Sequence[ValidationCurve]) -> list[Figure]:
    """Draw KID and own-task share on validation tasks over the training images seen."""
    return [_training_figure(curves, metric) for metric in CHARTED_METRICS] if curves else []


def _training_figure(validations: Sequence[ValidationCurve], metric: ChartedMetric) -> Figure:
    curves = []
    for run, validation_points in validations:
        points = [
            Point(images, metric.factor * scores.value(metric.key))
            for images, scores in validation_points
        ]
        curves.append(_curve(run, points))
    return line_chart(
        f"Validation: {metric.title}",
        curves,
        [],
        x_label="training images seen",
        highest=metric.highest,
    )


def _curve(run: ComparedRun, points: list[Point]) -> Curve:
    finite = [point for point in points if math.isfinite(point.y)]
    return Curve(name=run.name, style=run.style, points=finite, marker=run.marker)
