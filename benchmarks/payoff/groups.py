"""Groups of cells: the trainings of one method at one budget, and the steps that they need."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from benchmarks.payoff.cell_files import CellResult, CurveScores, read_cell_scores
from benchmarks.payoff.cells import Cells
from benchmarks.payoff.plan import JOINT, SCRATCH, Cell
from metatrain.evaluation.scores.statistics import Difference, Score
from metatrain.metrics.metric import METRICS

SPACES = ("metric network", "HOG", "pixels")
KID, OWN_TASK, HOG_KID = "metric network/kid", "metric network/own_task", "HOG/kid"
MEMORISED = {space: f"{space}/memorised" for space in SPACES}


@dataclass(frozen=True, kw_only=True)
class Group:
    """The trainings of a method that are done.

    Attributes:
        data: name of the data set.
        method: name of the method.
        tflop: budget of each training; 0 for random weights.
        results: what was measured of each training.
        scores: means over the trainings, which have the same tasks.
        pace: seconds of an inner step on one core. All methods of a data set have the same network,
            so it is the least of all their tasks: other work of the machine slows the rest.
    """

    data: str
    method: str
    tflop: float
    results: list[CellResult]
    scores: CurveScores
    pace: float

    @property
    def last(self) -> int:
        """The last number of inner steps."""
        return max(self.scores)

    @property
    def after_all(self) -> dict[str, Score]:
        """The scores after the last inner step."""
        return self.scores[self.last]


class Need(NamedTuple):
    """The fewest inner steps for a quality, their seconds, and the difference to it there."""

    steps: int
    seconds: float
    difference: Difference


def read_groups(cells: Cells, every: Sequence[Cell]) -> list[Group]:
    """Read the cells that are done, and group them, in the order of `every`."""
    grouped: dict[tuple[str, str, float], list[tuple[CellResult, CurveScores]]] = {}
    for cell in every:
        if result := cells.result(cell):
            scores = read_cell_scores(cells.folder_of(cell))
            grouped.setdefault((cell.data, cell.method, cell.tflop), []).append((result, scores))
    paces: dict[str, float] = {}
    for (data, *_), of in grouped.items():
        paces[data] = min([paces.get(data, math.inf), *(_pace(result) for result, _ in of)])
    return [
        Group(
            data=data,
            method=method,
            tflop=tflop,
            results=[result for result, _ in of],
            scores=mean_curve([scores for _, scores in of]),
            pace=paces[data],
        )
        for (data, method, tflop), of in grouped.items()
    ]


def _pace(result: CellResult) -> float:
    steps = max(result.seconds)
    return result.seconds[steps] / steps


def mean_curve(curves: Sequence[CurveScores]) -> CurveScores:
    """Return the means of the scores of several trainings, resample by resample."""
    return {
        steps: {name: mean_score([curve[steps][name] for curve in curves]) for name in named}
        for steps, named in curves[0].items()
    }


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the mean of scores of the same tasks."""
    return Score(
        sum(score.value for score in scores) / len(scores),
        torch.stack([score.resampled for score in scores]).mean(dim=0),
        torch.stack([score.influence for score in scores]).mean(dim=0),
    )


def joint_of(groups: Sequence[Group], group: Group) -> Group | None:
    """Return joint training of the same data and budget; None where it is not done."""
    same = (group.data, JOINT, group.tflop)
    return next((g for g in groups if (g.data, g.method, g.tflop) == same), None)


def compared(groups: Sequence[Group]) -> list[tuple[Group, Group]]:
    """Pair every group with joint training of its budget; random weights with that of each."""
    pairs = []
    for joint in (group for group in groups if group.method == JOINT):
        rivals = [g for g in groups if g.data == joint.data and g.method != JOINT]
        same = [g for g in rivals if g.method == SCRATCH or g.tflop == joint.tflop]
        pairs += [(group, joint) for group in [joint, *same]]
    return pairs


def need(group: Group, target: Score, name: str) -> Need | None:
    """Return the fewest inner steps after which a score is as good as `target`.

    None where it is not after any of the numbers of steps that were measured.
    """
    better = METRICS[name.rpartition("/")[2]].better
    sign = -1 if better == "higher" else 1
    for steps, scores in group.scores.items():
        if sign * scores[name].value <= sign * target.value:
            return Need(steps, steps * group.pace, scores[name].minus(target))
    return None
