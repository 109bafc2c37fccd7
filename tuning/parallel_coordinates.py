"""Parallel coordinates of a sweep: a line per trial through its values, to its score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from metatrain.report import svg
from metatrain.report.axis import Axis
from tuning.ledger import SweepLedger, TrialRecord
from tuning.space import Dimension

# In the drawing's own units: the place of the first axis, the distance of two, and their ends.
_FIRST, _APART, _TOP, _BOTTOM, _HEIGHT = 30, 150, 34, 270, 300
# The room right of the last axis, for its labels.
_LABELS = 90

# The number of best trials that stand out.
_BEST = 5


@dataclass(frozen=True)
class Coordinate:
    """An upright axis.

    Attributes:
        name: the key of the space, or the score.
        axis: the axis of numbers; None for a choice.
        choices: the values of a choice, from the bottom up.
        best_up: whether the lowest number is at the top.
    """

    name: str
    axis: Axis | None
    choices: tuple[str, ...] = ()
    best_up: bool = False

    def place(self, value: Any) -> float:
        """Map `value` to its place: 0 at the bottom, 1 at the top."""
        if self.axis:
            place = self.axis.place(value)
            return 1 - place if self.best_up else place
        return (self.choices.index(str(value)) + 0.5) / len(self.choices)

    def labels(self) -> list[tuple[float, str]]:
        """List the labels with their places."""
        if self.axis:
            return [(self.place(tick), svg.number(tick)) for tick in self.axis.ticks()]
        return [(self.place(choice), choice) for choice in self.choices]


def parallel_coordinates(ledger: SweepLedger) -> Markup:
    """Draw a line per trial through its values, to its last score; the best trials stand out."""
    best = ledger.finished_by_score()[:_BEST]
    space = ledger.sweep.settings.space
    coordinates = [coordinate_of(key, d) for key, d in space.items() if not d.same_as]
    scored = [
        (record, record.last_report.score)
        for record in ledger.records.values()
        if record.last_report and record.last_report.is_finite
    ]
    scores = Axis([score for _, score in scored] or [0.0], padding=0.02)
    title = f"{ledger.metric} (best at the top)"
    coordinates.append(Coordinate(title, scores, best_up=True))
    parts = []
    # The best last, above the others.
    for record, score in sorted(scored, key=lambda pair: pair[0] in best):
        style = "best" if record in best else record.state
        parts.append(_trial_line(coordinates, record, score, title=title, style=style))
    parts += [_upright(i, coordinate) for i, coordinate in enumerate(coordinates)]
    width = _x(len(coordinates) - 1) + _LABELS
    return svg.drawing(width, _HEIGHT, label="All trials: their values and scores", parts=parts)


def coordinate_of(key: str, dimension: Dimension) -> Coordinate:
    """Build the coordinate of a key of the space."""
    if dimension.choice:
        return Coordinate(key, None, tuple(str(value) for value in dimension.choice))
    return Coordinate(key, Axis(dimension.extremes(), log=dimension.log))


def _trial_line(
    coordinates: Sequence[Coordinate],
    record: TrialRecord,
    score: float,
    *,
    title: str,
    style: str,
) -> Markup:
    """Draw the line of a trial through the coordinates that it has values of."""
    values = record.values | {title: score}
    places = [
        (_x(i), _y(coordinate.place(values[coordinate.name])))
        for i, coordinate in enumerate(coordinates)
        if coordinate.name in values
    ]
    tooltip = f"trial {record.name}: {score:.4g}"
    return svg.polyline(places, style=f"trial {style}", tooltip=tooltip)


def _upright(number: int, coordinate: Coordinate) -> Markup:
    x = _x(number)
    parts = [svg.line(x, _TOP, x, _BOTTOM, style="zero")]
    parts.append(svg.text(x - 24, _TOP - 14, coordinate.name, anchor="start"))
    for place, label in coordinate.labels():
        parts.append(svg.text(x + 5, _y(place) + 4, label, anchor="start"))
    return Markup().join(parts)


def _x(number: int) -> float:
    return _FIRST + _APART * number


def _y(place: float) -> float:
    return _BOTTOM - place * (_BOTTOM - _TOP)
