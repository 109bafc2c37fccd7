"""The tables of the payoff, in Markdown."""

from collections.abc import Mapping, Sequence

from benchmarks.payoff.evaluator import LOSS
from benchmarks.payoff.groups import HOG_KID, KID, MEMORISED, OWN_TASK, Group, Need, compared, need
from benchmarks.payoff.plan import Cell, Plan
from metatrain.evaluation.results import estimates
from metatrain.evaluation.scores.statistics import Difference, Estimate, Score
from metatrain.evaluation.terminal_table import score_with_interval
from metatrain.metrics.metric import METRICS

# Columns that have no numbers.
_TEXTS = ("data", "method")


def needs_table(groups: Sequence[Group]) -> str:
    """Return the inner steps and seconds that each group needs for joint training's quality."""
    rows = []
    for group, joint in compared(groups):
        cells = [joint.data, f"{joint.tflop:g}", group.method, str(len(group.results))]
        for name in (KID, OWN_TASK):
            cells += _need_cells(name, need(group, joint.after_all[name], name), joint.last)
        rows.append(cells)
    heads = ["data", "TFLOP", "method", "trainings"]
    parts = ("steps", "s", "less joint's")
    heads += [f"{title}: {part}" for title in ("KID", "own task") for part in parts]
    return _table(heads, rows)


def _need_cells(name: str, least: Need | None, last: int) -> list[str]:
    if least is None:
        return [f"more than {last}", "", ""]
    return [str(least.steps), f"{least.seconds:.1f}", difference_text(name, least.difference)]


def scores_table(groups: Sequence[Group], real: Mapping[str, dict[str, Score]]) -> str:
    """Return the scores of all groups after the last inner step."""
    rows = []
    for data in dict.fromkeys(group.data for group in groups):
        for group in (group for group in groups if group.data == data):
            after = group.after_all
            cells = [data, f"{group.tflop:g}", group.method, str(len(group.results))]
            rows.append(cells + _score_cells(after) + [_score_text(LOSS, after[LOSS])])
        rows.append([data, "", "held-out real", "", *_score_cells(real[data]), ""])
    heads = ["data", "TFLOP", "method", "trainings", "KID", "own task", "KID in HOG"]
    heads += [f"memorised, {space}" for space in MEMORISED]
    return _table([*heads, "held-out flow loss"], rows)


def _score_cells(scores: Mapping[str, Score]) -> list[str]:
    names = (KID, OWN_TASK, HOG_KID, *MEMORISED.values())
    return [_score_text(name, scores[name]) for name in names]


def cells_table(plan: Plan, groups: Sequence[Group], every: Sequence[Cell]) -> str:
    """Return how many trainings of each method and budget are done, of how many."""
    done = {(g.data, g.method, g.tflop): len(g.results) for g in groups}
    budgets = sorted({cell.tflop for cell in every})
    rows = []
    for data in plan.data:
        for method in plan.methods:
            cells = [data, method]
            for tflop in budgets:
                planned = [c for c in every if (c.data, c.method, c.tflop) == (data, method, tflop)]
                count = done.get((data, method, tflop), 0)
                some = f"{count} of {len(planned)}" if count else "not run"
                cells.append(some if planned else "")
            rows.append(cells)
    return _table(["data", "method", *(f"{t:g} TFLOP" for t in budgets)], rows)


def difference_text(name: str, difference: Difference) -> str:
    """Format a difference with its interval, such as `-0.003 [-0.010, 0.004]`."""
    metric = METRICS[name.rpartition("/")[2]]
    low, high = metric.number(difference.low), metric.number(difference.high)
    return f"{metric.number(difference.value, signed=True)}{metric.unit} [{low}, {high}]"


def ratio_text(ratio: Estimate) -> str:
    """Format a ratio with its interval."""
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _score_text(name: str, score: Score) -> str:
    metric = name.rpartition("/")[2]
    return score_with_interval(metric, estimates({metric: score})[metric])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns of numbers are those after the first texts."""
    ruler = ["---" if head in _TEXTS else "--:" for head in heads]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ruler, *rows))
