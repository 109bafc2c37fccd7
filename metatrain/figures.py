"""The curves of a report: what training did, and what adapting does."""

import math

from metatrain.charts import Curve, Figure, Level, Point, draw
from metatrain.evaluate import Evaluation
from metatrain.trainer import Record


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
    """KID over the inner steps, with the baselines."""
    points = [Point(n, score.kid) for n, score in sorted(evaluation.steps.items())]
    levels = {name: score.kid for name, score in evaluation.baselines.items()}
    return _score_figure("KID, lower is better", points, levels)


def share_figure(evaluation: Evaluation) -> Figure:
    """Own-task share over the inner steps with its standard errors, and the baselines."""
    points = [
        Point(n, 100 * score.own_task, 100 * score.own_task_error)
        for n, score in sorted(evaluation.steps.items())
    ]
    levels = {name: 100 * score.own_task for name, score in evaluation.baselines.items()}
    return _score_figure("Own-task share in %, higher is better", points, levels)


def _score_figure(title: str, points: list[Point], baselines: dict[str, float]) -> Figure:
    curve = Curve("the model", "model", _finite(points), marked=True)
    levels = [
        Level(name, name.replace(" ", "-"), value)
        for name, value in baselines.items()
        if math.isfinite(value)
    ]
    # The ceiling first, since it may equal copy-support, whose dots show on top of its dashes.
    return draw(title, [curve], levels[::-1], x_label="inner steps")


def _finite(points: list[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.y + point.error)]
