"""Pairs of runs: paired tests of their differences, and the conclusion that these allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from metatrain.evaluation.scores.statistics import Difference, holm
from metatrain.metrics.metric import MAIN_METRICS, METRICS
from metatrain.report.compared_runs import ComparedRun
from metatrain.report.formatting import score

# The sign of a difference that is better. Memorising has none: the best is what real images have.
_BETTER = {
    metric: 1 if METRICS[metric].better == "higher" else -1
    for metric in MAIN_METRICS
    if METRICS[metric].better != "real"
}


@dataclass(frozen=True)
class RunPair:
    """A run with an earlier one that it is compared to.

    Attributes:
        run: the run.
        other: the earlier one.
        differences: by metric, the score of `run` minus that of `other` on the same resampled
            tasks.
        adjusted: by metric, p by Holm's method over all pairs and metrics of the page.
    """

    run: ComparedRun
    other: ComparedRun
    differences: dict[str, Difference]
    adjusted: dict[str, float]

    def verdict(self, metric: str) -> str:
        """Judge the difference in `metric`: better, worse, or not significant."""
        difference = self.differences[metric]
        if not difference.significant:
            return "not significant"
        if metric not in _BETTER:
            return "more" if difference.value > 0 else "less"
        return "better" if difference.value * _BETTER[metric] > 0 else "worse"

    def favours(self, run: ComparedRun) -> bool:
        """Tell whether `run`, one of the two, is significantly better in every metric."""
        wanted = "better" if run is self.run else "worse"
        return all(self.verdict(metric) == wanted for metric in _BETTER)


def pairs_of(runs: Sequence[ComparedRun]) -> list[RunPair]:
    """Pair every run with every earlier one, those with the first run before all others.

    Raises:
        UserError: when the resampled scores of a run are missing or damaged.
    """
    space = runs[0].evaluation.spaces[0].name
    scores = [run.evaluated.scores(run.evaluation.system)[space] for run in runs]
    tests = [
        {m: scores[later][m].minus(scores[earlier][m]) for m in MAIN_METRICS}
        for earlier, later in combinations(range(len(runs)), 2)
    ]
    adjusted = iter(holm([test.p for of_pair in tests for test in of_pair.values()]))
    return [
        RunPair(later, earlier, of_pair, {m: next(adjusted) for m in MAIN_METRICS})
        for (earlier, later), of_pair in zip(combinations(runs, 2), tests, strict=True)
    ]


def conclusion(runs: Sequence[ComparedRun], pairs: Sequence[RunPair]) -> tuple[str, str]:
    """Conclude which run is best, and by which scores: it must be best in every metric."""
    best, recognised = (_best(runs, metric) for metric in _BETTER)
    lowest = f"{best.name} has the lowest KID, {_score(best, 'kid')}, where 0 is perfect"
    share = f"images recognised as their own task, {_score(recognised, 'own_task')}"
    if best is not recognised:
        return "No run is best.", f"{lowest}; {recognised.name} has most {share}."
    scores = f"{lowest}, and most {share}"
    doubtful = [
        pair.other if pair.run is best else pair.run
        for pair in pairs
        if best in (pair.run, pair.other) and not pair.favours(best)
    ]
    if doubtful:
        names = " and ".join(run.name for run in doubtful)
        return "No run is best for sure.", f"{scores}; against {names} this may be chance."
    return f"{best.name} is best.", f"{scores}; chance alone rarely makes such differences."


def _best(runs: Sequence[ComparedRun], metric: str) -> ComparedRun:
    space = runs[0].evaluation.spaces[0].name

    def merit(run: ComparedRun) -> float:
        value = _BETTER[metric] * run.result.scores[space][metric].value
        return -math.inf if math.isnan(value) else value

    return max(runs, key=merit)


def _score(run: ComparedRun, metric: str) -> str:
    return score(run.result.scores[run.evaluation.spaces[0].name][metric], metric)
