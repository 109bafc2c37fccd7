"""The page of the payoff, its figure, and all of its numbers as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import png
from benchmarks.payoff.cell_files import read_scores
from benchmarks.payoff.cells import Cells
from benchmarks.payoff.figure import LEAST_KID, payoff_svg
from benchmarks.payoff.goals import goals_text
from benchmarks.payoff.groups import Group, read_groups
from benchmarks.payoff.plan import SCRATCH, Cell, Plan
from benchmarks.payoff.tables import cells_table, needs_table, scores_table
from metatrain.base.errors import UserError
from metatrain.evaluation.scores.statistics import Score

_PAGE = """\
# The payoff of meta-learning

Quality over budgets of training, and over adapting, for joint training, for meta-learners and for
random weights. `python -m benchmarks.payoff` trained the models, measured them and wrote this page,
at {commits}, on {hardware}; run again, it continues with the cells that are missing.
[payoff.yaml](../benchmarks/payoff/payoff.yaml) has the data sets, the methods and the budgets, and
[payoff.json](payoff.json) has all scores after every number of inner steps.

![Quality over training compute and over inner steps](payoff.png)

A KID below {least} is drawn at {least}. The system *{scratch}* has random weights and no training.

## For joint training's quality

The fewest inner steps, of {steps}, after which the mean over trainings is at least
as good as that of joint training at the same budget after {last}, and the seconds that they take.
Beside them is the difference at that number of steps, with its interval over tasks.

{needs}

## Scores after {last} inner steps

{scores}

{tested} tasks of the split test, one episode each, the same for all models. Scores are means over
trainings; the intervals are over tasks and not over trainings. *Held-out flow loss* is the mean
squared error of the velocity on the images of a test task that the model has not adapted to. It is
no likelihood: that would take an integral along the probability flow.

## Goals

{goals}

## Cells

Trainings that are done, of those planned:

{cells}

## Measurement

- A training has as many outer steps as its budget pays for. Operations are counted by tracing the
  learner's outer gradients, as `metatrain plan` does. Several stages divide a method's budget.
- Each training adapts at the rate, of {rates}, that has the lowest KID on {validation} tasks of
  the split val after the last inner step. Nothing was chosen on the split test.
- Seconds are those of the inner steps on one core, without sampling. An inner step costs the same
  for all methods of a data set, which share the network, so its time is the least of all their
  tasks: other work of the machine slows the rest.
- Scores and intervals are those of [evaluation.md](evaluation.md). The metric network of a data set
  is the same for all of its cells.
"""


def write_page(plan: Plan, cells: Cells, every: Sequence[Cell], out: Path) -> Path:
    """Write the page, the figure and the numbers of the cells that are done; return the page.

    Raises:
        UserError: when no cell is done.
    """
    groups = read_groups(cells, every)
    if not groups:
        raise UserError("no cell is done, so there is no page to write.")
    real = {d: read_scores(cells.real_file(d))[0] for d in {group.data for group in groups}}
    svg = payoff_svg(groups, real, list(plan.methods))
    out.mkdir(parents=True, exist_ok=True)
    (out / "payoff.svg").write_text(svg)
    (out / "payoff.png").write_bytes(png(svg))
    (out / "payoff.json").write_text(_numbers(plan, groups, real) + "\n")
    page = out / "payoff.md"
    page.write_text(_text(plan, groups, real, every))
    return page


def _text(
    plan: Plan,
    groups: Sequence[Group],
    real: Mapping[str, dict[str, Score]],
    every: Sequence[Cell],
) -> str:
    results = [result for group in groups for result in group.results]
    commits = dict.fromkeys(result.commit[:7] for result in results)
    return _PAGE.format(
        commits=", ".join(f"`{sha}`" for sha in commits),
        hardware=", ".join(dict.fromkeys(result.hardware for result in results)),
        least=LEAST_KID,
        scratch=SCRATCH,
        steps=", ".join(str(k) for k in plan.inner_steps),
        last=plan.inner_steps[-1],
        needs=needs_table(groups),
        scores=scores_table(groups, real),
        tested=_span([len(result.tasks) for result in results]),
        goals=goals_text(groups, real),
        cells=cells_table(plan, groups, every),
        rates=" and ".join(f"{rate:g}" for rate in plan.rates),
        validation=plan.validation_tasks,
    )


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _numbers(plan: Plan, groups: Sequence[Group], real: Mapping[str, dict[str, Score]]) -> str:
    """Return everything as JSON: the plan, the trainings and all scores."""
    values = {
        "plan": plan.model_dump(mode="json"),
        "held_out_real": {data: _estimates(scores) for data, scores in real.items()},
        "groups": [
            {
                "data": group.data,
                "method": group.method,
                "tflop": group.tflop,
                "trainings": [asdict(result) for result in group.results],
                "scores": {steps: _estimates(scores) for steps, scores in group.scores.items()},
            }
            for group in groups
        ],
    }
    return json.dumps(values, indent=1)


def _estimates(scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    return {name: asdict(score.estimate) for name, score in scores.items()}
