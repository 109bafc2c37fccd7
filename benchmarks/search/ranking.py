"""Compare the ranking of configurations by cheap scores with that by the full KID.

    python -m benchmarks.search.ranking

Takes a finished sweep without early stopping, evaluates every trial's model on many tasks that
neither training nor the sweep has seen, and compares the order of the trials by each cheap score of
the sweep with their order by the full KID. Prints a table, writes JSON.
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
from metatrain.evaluation.validation import Validation, read_validations, validation_curves
from metatrain.metrics.metric import VALIDATION_METRICS
from metatrain.metrics.network import metric_network
from metatrain.model.file import load_model
from tuning.ledger import TrialRecord, read_records

# Pairs of scores whose ranks are also summed.
_PAIRS = (("kid", "loss"), ("kid", "own_task"), ("task_kid", "similarity"))


def full_kid(sweep: str, record: TrialRecord, tasks: int, images: int) -> float:
    """Compute the KID of a trial's model at its best k, on many tasks of the split test."""
    model = load_model(f"{sweep}/runs/{record.run}")
    section = model.config.validation.model_copy(update={"tasks": tasks, "images": images})
    config = model.config.model_copy(update={"validation": section})
    source, data = open_tasks(config.data), config.data
    url = f"{sweep}/metric.safetensors"
    network = metric_network(source, url, image_size=data.image_size, channels=data.channels)
    validation = Validation(config, source, network, split="test")
    [curve] = validation_curves([model], validation)
    return min(scores.kid for scores in curve)


def cheap_scores(sweep: str, record: TrialRecord) -> dict[str, float]:
    """Read each score of a trial's last validation at its best k; lower is better."""
    validation = read_validations(f"{sweep}/runs/{record.run}")[-1]
    return {name: min(validation.costs(name).values()) for name in VALIDATION_METRICS}


def ranks(values: Sequence[float]) -> list[float]:
    """Rank values from 0; equal values get the mean of their ranks."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Compute the correlation of ranks."""
    x, y = (torch.tensor(ranks(values), dtype=torch.float64) for values in (a, b))
    return torch.corrcoef(torch.stack([x, y]))[0, 1].item()


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Compute Kendall's tau-b: concordant minus discordant pairs, over the untied ones."""
    pairs = combinations(range(len(a)), 2)
    signs = [(_sign(a[i] - a[j]), _sign(b[i] - b[j])) for i, j in pairs]
    untied = math.prod(sum(s[side] != 0 for s in signs) for side in (0, 1)) ** 0.5
    return sum(x * y for x, y in signs) / untied


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def correlations(
    cheap: Sequence[dict[str, float]], full: Sequence[float]
) -> dict[str, list[float]]:
    """Correlate each cheap score, and sums of two scores' ranks, with the full KID.

    Returns:
        Kendall's tau and Spearman's rho, by the name of the score.
    """
    by_name = {name: [scores[name] for scores in cheap] for name in VALIDATION_METRICS}
    for a, b in _PAIRS:
        both = zip(ranks(by_name[a]), ranks(by_name[b]), strict=True)
        by_name[f"{a} + {b}"] = [x + y for x, y in both]
    return {n: [kendall(v, full), spearman(v, full)] for n, v in by_name.items()}


def main() -> None:
    """Evaluate all trials, print the table, and write the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sweep", help="the folder of a finished sweep with scheduler.name=none")
    parser.add_argument("--tasks", type=int, default=64, help="tasks of the full KID (64)")
    parser.add_argument("--images", type=int, default=10, help="images of each task (10)")
    parser.add_argument("--json", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = [r for r in read_records(options.sweep) if r.state == "finished"]
    full = [
        full_kid(options.sweep, r, options.tasks, options.images)
        for r in progress(records, "trials")
    ]
    cheap = [cheap_scores(options.sweep, record) for record in records]
    by_score = correlations(cheap, full)
    print(f"{len(records)} configurations\n\n| score | Kendall | Spearman |\n|---|--:|--:|")
    for name, (tau, rho) in sorted(by_score.items(), key=lambda item: -item[1][0]):
        print(f"| {name} | {tau:.2f} | {rho:.2f} |")
    if options.json:
        rows = [
            {"trial": r.name, "full": f} | c for r, f, c in zip(records, full, cheap, strict=True)
        ]
        options.json.write_text(
            json.dumps({"correlations": by_score, "trials": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
