"""Validation: one adaptation gives the scores at every number of inner steps."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatrain.base.errors import UserError
from metatrain.config import load_config, with_values
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import (
    Validation,
    ValidationResult,
    ValidationScores,
    read_validations,
    steps_scored,
    validation_of,
    write_validations,
)
from metatrain.metrics.metric import VALIDATION_METRICS
from metatrain.model.build import build_theta
from metatrain.model.model import Model
from metatrain.storage.files import write_file


@given(st.integers(1, 300), st.integers(1, 20))
def test_the_last_step_is_scored_and_all_where_there_are_points_enough(last, points):
    ks = steps_scored(last, points)
    assert ks == sorted(set(ks))
    assert ks[-1] == last
    assert ks[0] >= 1
    assert len(ks) <= max(points, 2)
    if points >= last:
        assert ks == list(range(1, last + 1))


@pytest.fixture
def validating(overrides):
    return load_config(None, [*overrides, "validation.tasks=3", "validation.images=4"])


def features_of(config, **adapt):
    """Build a validation, and the features of an untrained model's samples on its tasks."""
    changed = config.model_copy(update={"adapt": config.adapt.model_copy(update=adapt)})
    validation = validation_of(changed, open_tasks(config.data))
    adapter = Model(changed, build_theta(changed).copy(), 0).adapter()
    return validation, [validation.task_features(adapter, e) for e in validation.episodes]


def test_every_k_scores_as_that_many_steps_alone(validating):
    validation, features = features_of(validating, steps=3)
    curve = {scores.k: scores for scores in validation.scores(features)}
    assert set(curve) == {1, 2, 3}
    for k in (1, 2, 3):
        alone, features = features_of(validating, steps=k)
        assert alone.scores(features)[-1] == curve[k]


def test_fewer_than_two_tasks_are_refused(validating):
    network = validation_of(validating, open_tasks(validating.data))._network
    config = with_values(validating, {"validation.tasks": 2, "validation.images": 500})
    with pytest.raises(UserError):
        Validation(config, open_tasks(config.data), network)
    with pytest.raises(UserError, match="scores compare tasks"):
        load_config(None, ["validation.tasks=1"])


def test_the_best_k_follows_the_direction_of_every_metric_and_no_number_is_worst():
    good = ValidationScores(k=2, loss=0.1, own_task=0.9, similarity=0.9, kid=0.1, task_kid=0.1)
    bad = ValidationScores(k=1, loss=0.2, own_task=0.2, similarity=0.2, kid=0.5, task_kid=0.5)
    broken = replace(good, k=3, **dict.fromkeys(VALIDATION_METRICS, math.nan))
    result = ValidationResult(10, [bad, good, broken])
    for metric in VALIDATION_METRICS:
        assert result.best(metric) == good
        assert result.costs(metric)[3] == math.inf
    assert result.costs("own_task")[2] == pytest.approx(0.1)
    assert result.costs("kid")[2] == pytest.approx(0.1)
    assert good.value("own_task") == 0.9


def test_results_are_read_back_and_a_damaged_file_is_refused(tmp_path):
    scores = ValidationScores(k=1, loss=0.5, own_task=0.5, similarity=0.5, kid=0.5, task_kid=0.5)
    results = [ValidationResult(5, [scores])]
    assert read_validations(str(tmp_path)) == []
    write_validations(str(tmp_path), results)
    assert read_validations(str(tmp_path)) == results
    write_file(f"{tmp_path}/validation.json", b"[{}]")
    with pytest.raises(UserError, match="damaged"):
        read_validations(str(tmp_path))
