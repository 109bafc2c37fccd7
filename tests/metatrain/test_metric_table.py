"""The table of metrics: every score has a title, a direction and a format."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metatrain.config import load_config
from metatrain.data.loader import open_tasks
from metatrain.evaluation.scores.measure import STATISTICS, RealFeatures
from metatrain.evaluation.scores.statistics import score
from metatrain.evaluation.validation import TaskFeatures, Validation, ValidationScores
from metatrain.metrics.kid import kid_of_pairs
from metatrain.metrics.metric import (
    EVALUATION_METRICS,
    MAIN_METRICS,
    METRICS,
    VALIDATION_METRICS,
    Metric,
)
from metatrain.metrics.network import HashedNetwork, MetricNetwork


def test_every_column_of_an_evaluation_has_a_statistic_and_the_main_ones_come_first():
    assert list(STATISTICS) == list(EVALUATION_METRICS)
    assert tuple(EVALUATION_METRICS)[: len(MAIN_METRICS)] == MAIN_METRICS
    assert all(METRICS[key] is metric for key, metric in EVALUATION_METRICS.items())


def test_every_metric_of_a_search_is_a_field_of_the_validation_scores():
    scores = ValidationScores(k=1, loss=1.0, own_task=2.0, similarity=3.0, kid=4.0, task_kid=5.0)
    assert [scores.value(key) for key in VALIDATION_METRICS] == [2.0, 3.0, 5.0, 4.0, 1.0]
    assert {metric.better for metric in VALIDATION_METRICS.values()} == {"higher", "lower"}


@given(st.sampled_from(list(VALIDATION_METRICS)), st.floats(-1, 1), st.floats(-1, 1))
def test_the_better_score_has_the_lower_cost(key, a, b):
    metric = VALIDATION_METRICS[key]
    better = max(a, b) if metric.better == "higher" else min(a, b)
    assert metric.cost(better) == min(metric.cost(a), metric.cost(b))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_costs_most(value):
    assert all(metric.cost(value) == math.inf for metric in VALIDATION_METRICS.values())


def test_numbers_are_written_in_the_unit_of_their_metric():
    share, plain = METRICS["own_task"], METRICS["kid"]
    assert (share.number(0.7754), share.unit) == ("77.5", "%")
    assert (share.number(-0.0001, signed=True), share.number(0.1, signed=True)) == ("+0.0", "+10.0")
    assert (plain.number(-0.0364), plain.unit) == ("-0.036", "")
    assert METRICS["query_loss"].number(0.12345) == "0.1235"
    assert (share.cost_title, plain.cost_title) == ("1 - own task", "KID")
    assert Metric(title="x", better="real").number(1.0) == "1.000"


def test_a_validation_and_an_evaluation_score_the_same_samples_alike(packed):
    overrides = [f"data.path={packed}", "data.image_size=16", "validation.tasks=2"]
    config = load_config(None, [*overrides, "data.shots=3", "adapt.steps=1"])
    network = HashedNetwork(MetricNetwork(1).eval(), "network", "")
    validation = Validation(config, open_tasks(config.data), network, split="train")
    real = network.features(torch.stack([e.query.target for e in validation.episodes]))
    samples = network.features(torch.rand(*real.shape[:2], 1, 16, 16))
    tasks = [TaskFeatures({1: features}, {1: 0.0}) for features in samples]
    [scores] = validation.scores(tasks)
    everything = RealFeatures(support=real, reference=real, held_out=real)
    for metric in ("kid", "own_task"):
        value = score(STATISTICS[metric](samples, everything), len(samples)).value
        assert scores.value(metric) == pytest.approx(value)
        assert VALIDATION_METRICS[metric] is EVALUATION_METRICS[metric]
    assert scores.task_kid == pytest.approx(kid_of_pairs(samples, real).diagonal().mean().item())
