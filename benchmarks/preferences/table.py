"""The table of win rates, and whether the goal was met."""

from collections.abc import Sequence

import torch

from benchmarks.preferences.cells import LEARNED, RaterCell, RaterCells
from metatrain.evaluation.scores.statistics import Estimate, mean_of, score
from metatrain.preferences.prefer import DIRECT

# The goal: at `_FEW` choices or fewer from a meta-trained start, what the standard start has at the
# most.
_FEW, _MANY = 25, 100
HEADER = ("choices", "method", "win rate", "95% interval", "KID")


class WinRates:
    """Win rates of every method after each number of choices.

    Args:
        cells: that are done.
        raters: each with the task of its cells.
        choices: numbers of choices.
    """

    def __init__(
        self, cells: RaterCells, raters: Sequence[tuple[str, int]], choices: Sequence[int]
    ) -> None:
        self._scores = {
            count: [cells.scores(RaterCell(task, rater, count)) for task, rater in raters]
            for count in choices
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of the table, without its header."""
        rows = []
        for count, by_rater in self._scores.items():
            for method in by_rater[0]:
                win = self._estimate(count, method)
                kid = torch.tensor([scores[method]["kid"] for scores in by_rater]).mean().item()
                interval = f"{win.low:.1%} to {win.high:.1%}"
                rows.append((str(count), method, f"{win.value:.1%}", interval, f"{kid:.3f}"))
        return rows

    def verdict(self) -> str | None:
        """Say whether the goal was met; None where it was not measured."""
        few = [count for count in self._scores if count <= _FEW]
        if _MANY not in self._scores or not few or LEARNED not in self._scores[_MANY][0]:
            return None
        goal, count = self._estimate(_MANY, DIRECT), max(few)
        standard = f"from the standard start {goal.value:.1%} after {_MANY} choices"
        if goal.low <= 0.5:
            # To reach what is no better than chance would be no success.
            return f"Goal undecided: {standard}, which chance may explain."
        reached = self._estimate(count, LEARNED).value
        verdict = "met" if reached >= goal.value else "missed"
        return (
            f"Goal {verdict}: {standard}; from the meta-trained start {reached:.1%} after {count}."
        )

    def _estimate(self, count: int, method: str) -> Estimate:
        wins = torch.tensor([[scores[method]["win"]] for scores in self._scores[count]]).double()
        return score(mean_of(wins.flatten()), len(wins)).estimate


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [HEADER, tuple("---" for _ in HEADER), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def between(text: str, part: str, begin: str, end: str) -> str:
    """Put `part` in the place of what lies between two lines of `text`."""
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{part}\n{end}{after}"
