"""A sweep names a best trial only where one is, and its page has whole labels."""

import queue
import re

import pytest

from metatrain.report import svg
from tuning.config import load_sweep
from tuning.figures import curves_over_k, curves_over_steps
from tuning.ledger import SweepLedger, TrialReport
from tuning.parallel_coordinates import parallel_coordinates
from tuning.recorder import WorkerMessages
from tuning.trial_table import TrialTable
from tuning.verdict import verdict_on

SWEEP = """
dir: {dir}
name: {name}
metric: {metric}
overrides: {{validation.images: 5, validation.tasks: 16}}
space:
  inner.lr: {{loguniform: [1.0e-5, 1.0]}}
  learner.name: {{choice: [reptile, joint, "{long}"]}}
"""
LONG = "mtl"


@pytest.fixture
def make_ledger(tmp_path):
    def make(*scores, metric="own_task"):
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        name = f"s{file.stem}"
        file.write_text(SWEEP.format(dir=tmp_path, name=name, metric=metric, long=LONG))
        ledger = SweepLedger(load_sweep(str(file)))
        for i, score in enumerate(scores):
            record = ledger.add({"inner.lr": 0.001 * (i + 1), "learner.name": LONG})
            record.state = "finished"
            record.reports.append(TrialReport(1000, score, 8, 0.25, 60.0, i, {8: score, 4: score}))
        return ledger

    return make


@pytest.mark.parametrize(
    ("scores", "metric", "sentence"),
    [
        ((0.5, 0.4, 0.45), "own_task", "The best trial is 001."),
        (
            (0.4, 0.4, 0.5),
            "own_task",
            "No trial is best: the trials 000, 001 have the same score",
        ),
        ((0.1,) * 5, "kid", "the trials 000, 001, 002 and 2 more have the same score, 0.1000;"),
        ((0.94, 0.93, 0.97), "own_task", "No trial is best: 7.0% of the samples of trial 001 are "),
        ((0.94, 0.93, 0.97), "kid", "The best trial is 001."),
        ((0.8,), "own_task", "The best trial is 000."),
    ],
)
def test_ties_and_chance_are_told_in_place_of_a_best_trial(scores, metric, sentence, make_ledger):
    verdict = verdict_on(make_ledger(*scores, metric=metric), tasks=16)
    assert verdict is not None
    assert sentence in verdict.sentence


def test_of_few_tasks_chance_is_high(make_ledger):
    ledger = make_ledger(0.5, 0.6)
    assert "among 2 tasks" in verdict_on(ledger, tasks=2).sentence
    assert verdict_on(ledger, tasks=16).sentence == "The best trial is 000."


def test_without_a_finished_trial_there_is_no_verdict(make_ledger):
    assert verdict_on(make_ledger(), tasks=16) is None


def test_the_table_tells_ties(make_ledger):
    title = (
        TrialTable(make_ledger(0.4, 0.4, 0.5), WorkerMessages(queue.Queue()))
        .table(3)
        .renderables[0]
    )
    assert "the lowest score is 0.4000, by 2 trials" in str(title)


@pytest.mark.parametrize("scores", [(0.9375,) * 3, (0.5, 1.0), (1.0, 1.0)])
def test_every_label_is_whole_and_no_share_is_above_1(scores, make_ledger):
    ledger = make_ledger(*scores)
    drawing = str(parallel_coordinates(ledger))
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', drawing)[1])
    texts = re.findall(r'<text x="([\d.-]+)" y="([\d.-]+)"[^>]*>([^<]*)<', drawing)
    places = [(float(x), float(y), text) for x, y, text in texts]
    for x, y, text in places:
        end = x + svg.width_of(text)
        assert 0 <= x < end <= width
        assert all(end <= other for other, height, _ in places if height == y and other > x)
    figures = [drawing, str(curves_over_k(ledger).svg), str(curves_over_steps(ledger).svg)]
    for figure in figures:
        upright = re.findall(r'text-anchor="end">([\d.]+)<', figure)
        assert all(float(tick) <= 1 for tick in upright)
    scores = [text for x, _, text in places if x > places[-1][0] - 1 and text[0].isdigit()]
    assert scores
    assert max(map(float, scores)) <= 1
