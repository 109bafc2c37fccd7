"""Which cheap score ranks configurations as the full KID does.

    python -m benchmarks.search.ranking

Takes a finished sweep without early stopping, evaluates every trial's model on many tasks that
neither training nor the sweep has seen, and compares the order that each cheap score of the sweep
puts the trials in with the order by the full KID. Prints a table, writes JSON.
"""

import argparse
import json
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch

from benchmarks.gradients.measure import progress
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import METRICS, Validation, curves_of, read_validations
from metatrain.metrics.network import metric_network
from metatrain.model.file import load_model
from tuning.ledger import Record, read_records

# Scores whose ranks are added up.
_PAIRS = (("kid", "loss"), ("kid", "own_task"), ("task_kid", "similarity"))


def full_kid(sweep: str, record: Record, tasks: int, images: int) -> float:
    """KID of a trial's model at its best k, on many tasks of the split test."""
    model = load_model(f"{sweep}/runs/{record.run}")
    validation = model.config.validation.model_copy(update={"tasks": tasks, "images": images})
    config = model.config.model_copy(update={"validation": validation})
    source = open_tasks(config.data)
    network = metric_network(source, config.data, f"{sweep}/metric.safetensors")
    judge = Validation(config, source, network, split="test")
    [curve] = curves_of([model], judge)
    return min(scores.kid for scores in curve)


def cheap_scores(sweep: str, record: Record) -> dict[str, float]:
    """Every candidate at its best k, as the sweep saw the trial last; lower is better."""
    found = read_validations(f"{sweep}/runs/{record.run}")[-1]
    return {name: min(found.by_k(name).values()) for name in METRICS}


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value, from 0; equal ones share their mean."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """The correlation of ranks."""
    x, y = (torch.tensor(ranks(values), dtype=torch.float64) for values in (a, b))
    return torch.corrcoef(torch.stack([x, y]))[0, 1].item()


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b: how many more pairs are in the same order than are not."""
    pairs = list(combinations(range(len(a)), 2))
    signs = [(_sign(a[i] - a[j]), _sign(b[i] - b[j])) for i, j in pairs]
    untied = math.prod(sum(s[side] != 0 for s in signs) for side in (0, 1)) ** 0.5
    return sum(x * y for x, y in signs) / untied


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def correlations(
    cheap: Sequence[dict[str, float]], full: Sequence[float]
) -> dict[str, list[float]]:
    """Kendall and Spearman of every candidate, and of sums of two candidates' ranks."""
    by_name = {name: [scores[name] for scores in cheap] for name in METRICS}
    for a, b in _PAIRS:
        both = zip(ranks(by_name[a]), ranks(by_name[b]), strict=True)
        by_name[f"{a} + {b}"] = [x + y for x, y in both]
    return {n: [kendall(v, full), spearman(v, full)] for n, v in by_name.items()}


def main() -> None:
    """Evaluate, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sweep", help="the folder of a finished sweep with scheduler.name=none")
    parser.add_argument("--tasks", type=int, default=64, help="tasks of the full KID (64)")
    parser.add_argument("--images", type=int, default=10, help="images of each (10)")
    parser.add_argument("--json", type=Path, help="where to write it too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = [r for r in read_records(options.sweep) if r.state == "finished"]
    full = [
        full_kid(options.sweep, r, options.tasks, options.images)
        for r in progress(records, "trials")
    ]
    cheap = [cheap_scores(options.sweep, record) for record in records]
    found = correlations(cheap, full)
    print(f"{len(records)} configurations\n\n| score | Kendall | Spearman |\n|---|--:|--:|")
    for name, (tau, rho) in sorted(found.items(), key=lambda item: -item[1][0]):
        print(f"| {name} | {tau:.2f} | {rho:.2f} |")
    if options.json:
        rows = [
            {"trial": r.name, "full": f} | c for r, f, c in zip(records, full, cheap, strict=True)
        ]
        options.json.write_text(
            json.dumps({"correlations": found, "trials": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
