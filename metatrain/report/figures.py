"""The curves of a report: what training did, and what adapting does."""

import math
from collections.abc import Mapping

from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.scores.baselines import COPY, REAL
from metatrain.report.charts import Curve, Figure, Level, Point, draw
from metatrain.training.state import Record

# Baselines that a chart shows.
_BESIDE = (COPY, REAL)


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


def score_figures(evaluation: Evaluation) -> list[Figure]:
    """KID and own-task share over inner steps, and over the seconds that these take."""
    curve = evaluation.result.curve
    over = {
        "inner steps": {n: float(n) for n in curve},
        "seconds of adapting": {n: moment.seconds for n, moment in curve.items()},
    }
    titles = {
        "kid": ("KID, lower is better", 1),
        "own_task": ("Own-task share in %, higher is better", 100),
    }
    return [
        _score_figure(title, evaluation, metric, unit, places, x_label)
        for metric, (title, unit) in titles.items()
        for x_label, places in over.items()
    ]


def foresight_figures(evaluation: Evaluation) -> list[Figure]:
    """Each task's own-task share over the one that was expected; none where nothing was."""
    if evaluation.expectation_quality is None:
        return []
    pairs = zip(evaluation.expectation_quality.expected, evaluation.result.own_task, strict=True)
    tasks = [Point(100 * expected, 100 * measured) for expected, measured in pairs]
    curves = [
        Curve("as expected", "equal", [Point(0, 0), Point(100, 100)]),
        Curve("a task", "model dots", tasks, marked=True),
    ]
    return [draw("Own-task share in %, measured", curves, [], x_label="expected")]


def _score_figure(
    title: str,
    evaluation: Evaluation,
    metric: str,
    unit: float,
    places: Mapping[int, float],
    x_label: str,
) -> Figure:
    """A metric over the `places` of the numbers of inner steps, times `unit`."""
    moments = sorted(evaluation.result.curve.items())
    found = [(places[n], moment.scores[metric]) for n, moment in moments]
    points = [Point(x, unit * e.value, unit * (e.high - e.low) / 2) for x, e in found]
    curve = Curve("the model", "model", _finite(points), marked=True)
    return draw(title, [curve], levels_beside(evaluation, metric, unit), x_label=x_label)


def levels_beside(evaluation: Evaluation, metric: str, unit: float) -> list[Level]:
    """What the baselines got in `metric`, times `unit`."""
    space = evaluation.spaces[0].name
    levels = [
        Level(name, name.replace(" ", "-"), unit * value)
        for name in _BESIDE
        if math.isfinite(value := evaluation.results[name].scores[space][metric].value)
    ]
    # The ceiling first, since it may equal copy-support, whose dots show on top of its dashes.
    return levels[::-1]


def _finite(points: list[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.y + point.error)]
