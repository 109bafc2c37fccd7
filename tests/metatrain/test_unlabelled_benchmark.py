"""The benchmark of tasks without labels: the share of the labelled payoff that remains."""

import torch

from benchmarks.payoff.plan import SCRATCH
from benchmarks.unlabelled import LABELLED, METHODS, METRICS, table
from metatrain.evaluation.scores.statistics import mean_of, score


def of(level):
    values = level + torch.linspace(-0.01, 0.01, 8).double()
    return score(mean_of(values), 8)


def test_labels_keep_all_of_the_payoff_nothing_keeps_none_and_half_way_is_a_half():
    levels = dict.fromkeys(METHODS, 0.6) | {LABELLED: 0.4, SCRATCH: 0.8}
    results = {m: [dict.fromkeys(METRICS, of(level))] * 2 for m, level in levels.items()}
    rows = {line.split(" | ")[0].strip("| "): line for line in table(results).splitlines()[2:]}
    assert list(rows) == list(METHODS.values())
    assert rows["labels"].count("100% [") == len(METRICS)
    assert rows["nothing"].count(" 0% [") == len(METRICS)
    assert rows["random groups"].count(" 50% [") == len(METRICS)
    assert "0.600 [" in rows["views of one image"]
