"""Runs against each other, by paired tests, and what can be said of them for sure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from metatrain.evaluation.scores.statistics import Difference
from metatrain.metrics.metric import MAIN_METRICS, METRICS
from metatrain.report.contenders import Contender
from metatrain.report.writing import number

# The sign of a difference that is better. Memorising has none: the best is what real images have.
_BETTER = {
    metric: 1 if METRICS[metric].better == "higher" else -1
    for metric in MAIN_METRICS
    if METRICS[metric].better != "real"
}


@dataclass(frozen=True)
class Pair:
    """A run against an earlier one.

    Attributes:
        one: the run.
        other: the earlier one.
        gaps: by metric, the score of `one` minus that of `other` on the same resampled tasks.
    """

    one: Contender
    other: Contender
    gaps: dict[str, Difference]

    def says(self, metric: str) -> str:
        """What the difference in `metric` comes to: better, worse, or nothing for sure."""
        gap = self.gaps[metric]
        if not gap.significant:
            return f"not significant, p = {gap.p:.2f}"
        if metric not in _BETTER:
            return "more" if gap.value > 0 else "less"
        return "better" if gap.value * _BETTER[metric] > 0 else "worse"

    def favours(self, contender: Contender) -> bool:
        """Whether one of its two is better by every judge, and never by chance."""
        wanted = "better" if contender is self.one else "worse"
        return all(self.says(metric) == wanted for metric in _BETTER)


def pairs_of(contenders: Sequence[Contender]) -> list[Pair]:
    """Every run against every earlier one, those against the first before all others.

    Raises:
        UserError: when the resampled scores of a run are missing or damaged.
    """
    space = contenders[0].evaluation.spaces[0].name
    scores = [c.run.scores(c.evaluation.system)[space] for c in contenders]
    return [
        Pair(
            contenders[after],
            contenders[before],
            {m: scores[after][m].minus(scores[before][m]) for m in MAIN_METRICS},
        )
        for before, after in combinations(range(len(contenders)), 2)
    ]


def verdict(contenders: Sequence[Contender], pairs: Sequence[Pair]) -> tuple[str, str]:
    """What is sure, and the scores that say so: a best run is so by every judge."""
    kid, share = (_best(contenders, metric) for metric in _BETTER)
    found = f"{kid.name} has the lowest KID, {_score(kid, 'kid')}, where 0 is perfect"
    recognised = f"images recognised as their own task, {_score(share, 'own_task')}"
    if kid is not share:
        return "No run is best.", f"{found}; {share.name} has most {recognised}."
    found = f"{found}, and most {recognised}"
    doubtful = [
        pair.other if pair.one is kid else pair.one
        for pair in pairs
        if kid in (pair.one, pair.other) and not pair.favours(kid)
    ]
    if doubtful:
        names = " and ".join(contender.name for contender in doubtful)
        return "No run is best for sure.", f"{found}; against {names} this may be chance."
    return f"{kid.name} is best.", f"{found}; chance alone hardly makes such differences."


def _best(contenders: Sequence[Contender], metric: str) -> Contender:
    space = contenders[0].evaluation.spaces[0].name

    def merit(contender: Contender) -> float:
        value = _BETTER[metric] * contender.result.scores[space][metric].value
        return -math.inf if math.isnan(value) else value

    return max(contenders, key=merit)


def _score(contender: Contender, metric: str) -> str:
    return number(contender.result.scores[contender.evaluation.spaces[0].name][metric], metric)
