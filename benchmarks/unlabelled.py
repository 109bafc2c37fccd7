"""Tasks without labels: how much of the payoff of labelled tasks remains.

    python -m benchmarks.unlabelled --folder runs/unlabelled

Reptile is trained with an equal budget on labelled tasks, on groups that look alike, on views of
one image and on random groups, and adapts to the same test tasks; random weights have had no
training. The cells, the methods and the data are those of `benchmarks.payoff`, with one rate of
adapting. Every finished cell is kept, so that the same command resumes.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.commands import resumable
from benchmarks.payoff.cell_files import read_cell_scores
from benchmarks.payoff.cells import Cells
from benchmarks.payoff.groups import mean_score
from benchmarks.payoff.plan import SCRATCH, Cell, Plan, read_plan
from benchmarks.provenance import commit, hardware
from metatrain.evaluation.scores.statistics import Score
from metatrain.storage.files import write_file

_PLAN = str(Path(__file__).parent / "payoff" / "payoff.yaml")
LABELLED = "reptile"
METHODS = {
    LABELLED: "labels",
    "reptile-on-clusters": "groups that look alike",
    "reptile-on-views": "views of one image",
    "reptile-on-random-groups": "random groups",
    SCRATCH: "nothing",
}
# Of all, less is better.
METRICS = {
    "query_loss": "held-out flow loss",
    "HOG/kid": "KID in HOG",
    "metric network/kid": "KID",
}

# The scores of a method after the last inner step, of each seed.
Scores = Mapping[str, Sequence[Mapping[str, Score]]]


def main() -> None:
    """Train and score what is missing, and print a table."""
    options = _parse()
    torch.set_num_threads(1)
    fewer = {
        "rates": [options.rate],
        "test_tasks": options.tasks,
        "inner_steps": [0, options.inner_steps],
    }
    plan = read_plan(_PLAN).model_copy(update=fewer)
    cells = Cells(plan, options.folder, workers=1)
    results = {
        name: [_scores(cells, plan, _cell(options, name, seed)) for seed in range(options.seeds)]
        for name in METHODS
    }
    source = f"{options.data}, {options.tflop:g} TFLOP, {options.tasks} test tasks, "
    source += f"{options.inner_steps} inner steps, {options.seeds} seed(s), rate {options.rate:g}"
    text = f"{table(results)}\n\n{source}; {hardware()}, commit {commit()}\n"
    write_file(f"{options.folder}/table.md", text.encode())
    print(text)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--data", default="icons-32", help="data set of payoff.yaml (icons-32)")
    add("--tflop", type=float, default=4.0, help="budget of each training (4)")
    add("--seeds", type=int, default=1, help="trainings of each method (1)")
    add("--tasks", type=int, default=24, help="tasks of the split test (24)")
    add("--inner-steps", type=int, default=96, help="inner steps of adapting (96)")
    add("--rate", type=float, default=0.004, help="rate of adapting (0.004)")
    add("--folder", default="runs/unlabelled", help="folder of data, trainings and results")
    return parser.parse_args()


def _cell(options: argparse.Namespace, method: str, seed: int) -> Cell:
    return Cell(options.data, 0.0 if method == SCRATCH else options.tflop, seed, method)


def _scores(cells: Cells, plan: Plan, cell: Cell) -> Mapping[str, Score]:
    if cells.result(cell) is None:
        cells.run(cell)
    return read_cell_scores(cells.folder_of(cell))[plan.inner_steps[-1]]


def table(results: Scores) -> str:
    """Format each method's scores, and the share of the labelled payoff that remains.

    The payoff is the improvement over random weights; intervals are over tasks.
    """
    mean = {
        method: {metric: mean_score([scores[metric] for scores in seeds]) for metric in METRICS}
        for method, seeds in results.items()
    }
    head = " | ".join(f"{name} | payoff left" for name in METRICS.values())
    lines = [f"| tasks | {head} |", f"|---|{'--:|' * 2 * len(METRICS)}"]
    for method, name in METHODS.items():
        cells = []
        for metric in METRICS:
            score, none = mean[method][metric], mean[SCRATCH][metric]
            share = none.less(score).over(none.less(mean[LABELLED][metric])).estimate
            cells += [
                f"{score.estimate.value:.3f} [{score.estimate.low:.3f}, {score.estimate.high:.3f}]",
                f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]",
            ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(resumable(main))
