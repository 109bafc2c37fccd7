"""Validation: one adaptation scores every number of inner steps as if each were taken alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatrain.base.errors import UserError
from metatrain.base.parameters import copy_of
from metatrain.config import load_config
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import (
    METRICS,
    Scores,
    Validated,
    Validation,
    read_validations,
    steps_scored,
    validation_of,
    write_validations,
)
from metatrain.model.adapt import Adapter
from metatrain.model.build import build_generator
from metatrain.model.file import Model
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


def scores_of(config, **adapt):
    """What an untrained model gets."""
    changed = config.model_copy(update={"adapt": config.adapt.model_copy(update=adapt)})
    validation = validation_of(changed, open_tasks(config.data))
    adapter = Adapter(Model(changed, copy_of(build_generator(changed)), 0))
    return validation, [validation.look(adapter, e) for e in validation.episodes]


def test_every_k_on_the_way_scores_as_that_many_steps_alone(validating):
    validation, sights = scores_of(validating, steps=3)
    on_the_way = {scores.k: scores for scores in validation.scores(sights)}
    assert set(on_the_way) == {1, 2, 3}
    for k in (1, 2, 3):
        alone, sights_alone = scores_of(validating, steps=k)
        assert alone.scores(sights_alone)[-1] == on_the_way[k]


def test_tasks_that_nobody_has_two_of_are_said(validating):
    few = load_config(None, ["data.image_size=16"])
    network = validation_of(validating, open_tasks(validating.data))._network
    wanted = few.validation.model_copy(update={"tasks": 2, "images": 500})
    config = validating.model_copy(update={"validation": wanted})
    with pytest.raises(UserError):
        Validation(config, open_tasks(config.data), network)
    with pytest.raises(UserError, match="scores compare tasks"):
        load_config(None, ["validation.tasks=1"])


def test_better_is_lower_for_every_metric_and_no_number_is_worst():
    good = Scores(k=2, loss=0.1, own_task=0.9, similarity=0.9, kid=0.1, task_kid=0.1)
    bad = Scores(k=1, loss=0.2, own_task=0.2, similarity=0.2, kid=0.5, task_kid=0.5)
    broken = Scores(*[3, *[math.nan] * 5])
    found = Validated(10, [bad, good, broken])
    for metric in METRICS:
        assert found.best(metric) == good
        assert found.by_k(metric)[3] == math.inf


def test_what_was_found_is_read_back_and_damage_is_said(tmp_path):
    found = [Validated(5, [Scores(1, 0.5, 0.5, 0.5, 0.5, 0.5)])]
    assert read_validations(str(tmp_path)) == []
    write_validations(str(tmp_path), found)
    assert read_validations(str(tmp_path)) == found
    write_file(f"{tmp_path}/validation.json", b"[{}]")
    with pytest.raises(UserError, match="damaged"):
        read_validations(str(tmp_path))
