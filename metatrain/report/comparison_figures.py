"""The curves of a comparison: every run in one chart, over what it cost."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from metatrain.evaluation.results import CurvePoint
from metatrain.evaluation.validation import ValidationScores
from metatrain.report.charts import Curve, Figure, Point, draw
from metatrain.report.contenders import Contender
from metatrain.report.figures import levels_beside
from metatrain.report.validated import Course


class Shown(NamedTuple):
    """A metric of a chart: the title, and what it is multiplied by to be shown.

    `of` takes it from what was seen on validation tasks.
    """

    title: str
    unit: float
    of: Callable[[ValidationScores], float]


_SHOWN = {
    "kid": Shown("KID, lower is better", 1, lambda scores: scores.kid),
    "own_task": Shown("Own-task share in %, higher is better", 100, lambda scores: scores.own_task),
}


def adapting_figures(contenders: Sequence[Contender]) -> list[Figure]:
    """KID and own-task share over inner steps, and over the seconds that these take."""
    over: dict[str, Callable[[int, CurvePoint], float]] = {
        "inner steps": lambda step, moment: step,
        "seconds of adapting": lambda step, moment: moment.seconds,
    }
    return [
        _adapting_figure(contenders, metric, x_label, place)
        for metric in _SHOWN
        for x_label, place in over.items()
    ]


def _adapting_figure(
    contenders: Sequence[Contender],
    metric: str,
    x_label: str,
    place: Callable[[int, CurvePoint], float],
) -> Figure:
    shown = _SHOWN[metric]
    curves = []
    for contender in contenders:
        moments = sorted(contender.result.curve.items())
        points = [Point(place(n, m), shown.unit * m.scores[metric].value) for n, m in moments]
        curves.append(_curve(contender, points))
    levels = levels_beside(contenders[0].evaluation, metric, shown.unit)
    return draw(shown.title, curves, levels, x_label=x_label)


def training_figures(courses: Sequence[Course]) -> list[Figure]:
    """KID and own-task share on validation tasks over the training images that were seen."""
    if not courses:
        return []
    return [
        draw(
            f"Validation: {shown.title}",
            [
                _curve(
                    of, [Point(look.images, shown.unit * shown.of(look.scores)) for look in looks]
                )
                for of, looks in courses
            ],
            [],
            x_label="training images seen",
        )
        for shown in _SHOWN.values()
    ]


def _curve(contender: Contender, points: list[Point]) -> Curve:
    finite = [point for point in points if math.isfinite(point.y)]
    return Curve(contender.name, contender.style, finite, marked=True, shape=contender.shape)
