"""Parallel coordinates of a sweep: a line per trial through its values, to its score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from metatrain.report import svg
from metatrain.report.axis import Axis
from tuning.ledger import SweepLedger
from tuning.space import Dimension

# In the drawing's own units: the place of the first axis, the least distance of two, their ends.
_FIRST, _APART, _TOP, _BOTTOM, _HEIGHT = 30, 150, 34, 270, 300
# The least room right of the last axis, and the room between texts.
_LABELS, _GAP = 90, 14
# From an axis to the begin of its name, and to that of its labels.
_NAME, _LABEL = -24, 5

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

    @property
    def room(self) -> float:
        """The room that its name and its labels need to the right."""
        widths = [_LABEL + svg.width_of(label) for _, label in self.labels()]
        return _GAP + max(_NAME + svg.width_of(self.name), *widths, 0.0)

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
    scores = Axis(
        [score for _, score in scored] or [0.0], padding=0.02, highest=ledger.highest_score
    )
    title = f"{ledger.metric} (best at the top)"
    coordinates.append(Coordinate(title, scores, best_up=True))
    *across, width = _places_across(coordinates)
    parts = []
    # The best last, above the others.
    for record, score in sorted(scored, key=lambda pair: pair[0] in best):
        style = "best" if record in best else record.state
        values = record.values | {title: score}
        points = [
            (x, _y(coordinate.place(values[coordinate.name])))
            for x, coordinate in zip(across, coordinates, strict=True)
            if coordinate.name in values
        ]
        tooltip = f"trial {record.name}: {score:.4g}"
        parts.append(svg.polyline(points, style=f"trial {style}", tooltip=tooltip))
    parts += [_upright(x, coordinate) for x, coordinate in zip(across, coordinates, strict=True)]
    return svg.drawing(width, _HEIGHT, label="All trials: their values and scores", parts=parts)


def coordinate_of(key: str, dimension: Dimension) -> Coordinate:
    """Build the coordinate of a key of the space."""
    if dimension.choice:
        return Coordinate(key, None, tuple(str(value) for value in dimension.choice))
    return Coordinate(key, Axis(dimension.extremes(), log=dimension.log))


def _upright(x: float, coordinate: Coordinate) -> Markup:
    parts = [svg.line(x, _TOP, x, _BOTTOM, style="zero")]
    parts.append(svg.text(x + _NAME, _TOP - 14, coordinate.name, anchor="start"))
    for place, label in coordinate.labels():
        parts.append(svg.text(x + _LABEL, _y(place) + 4, label, anchor="start"))
    return Markup().join(parts)


def _places_across(coordinates: Sequence[Coordinate]) -> list[float]:
    """Return the place of each axis, far enough apart for their texts, and the whole width."""
    places = [float(_FIRST)]
    for coordinate in coordinates:
        is_last = len(places) == len(coordinates)
        # The name of the next axis begins left of it.
        room = coordinate.room - (0 if is_last else _NAME)
        places.append(places[-1] + max(_LABELS if is_last else _APART, room))
    return places


def _y(place: float) -> float:
    return _BOTTOM - place * (_BOTTOM - _TOP)
