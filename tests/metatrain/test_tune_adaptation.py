"""Tuning of adaptation: the model stays the same, except for the way it adapts."""

import json
from dataclasses import replace

import pytest
import torch
from local_training import train

from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.config import load_config, with_values
from metatrain.data.examples import Examples
from metatrain.data.loader import open_tasks
from metatrain.evaluation.tune_adaptation import (
    AdaptationSetting,
    settings_to_try,
    tune_adaptation,
    with_setting,
)
from metatrain.evaluation.validation import validation_of
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model


@pytest.fixture
def model(config):
    """A model with a little training, so that the way it adapts matters."""
    state = train(with_values(config, {"meta.lr": 0.5, "inner.lr": 0.01, "meta.steps": 5}), [])
    return Model(config, state.parameters, state.step)


def drawn(model):
    support = torch.linspace(-1, 1, 3 * 16 * 16).reshape(3, 1, 16, 16)
    return model.generator().sample(Examples(support), 2, seed=0)


@pytest.mark.parametrize("scope", ["film", "head", "body", "lora"])
def test_before_adapting_it_draws_the_same_in_every_scope(model, scope):
    changed = with_setting(model, AdaptationSetting(0.5, scope))
    assert (changed.config.adapt.lr, changed.config.inner.scope.name) == (0.5, scope)
    torch.testing.assert_close(drawn(changed), drawn(model), rtol=0, atol=1e-6)


def test_what_a_learner_brings_stays(model):
    assert {c.scope for c in settings_to_try(model, ["film"])} == {"all", "film"}
    anil = load_config(None, ["learner.name=anil"])
    assert {c.scope for c in settings_to_try(replace(model, config=anil), ["film"])} == {"head"}
    learned = load_config(None, ["learner.name=meta-sgd"])
    rules = Model(learned, build_theta(learned).copy(), 0)
    [setting] = settings_to_try(rules, ["film"])
    assert setting == AdaptationSetting(None, "all")
    assert with_setting(rules, setting).parameters.keys() == rules.parameters.keys()


def test_what_is_found_is_at_least_as_good_as_what_the_model_had(model, tmp_path):
    network = f"{tmp_path}/metric.safetensors"
    outcome = tune_adaptation(
        model, model.config.data.path, network, scopes=["film"], tasks=2, metric="similarity"
    )
    assert len(outcome.tried) == 10
    asked = {"validation.tasks": 2, "validation.network": network}
    config = with_values(model.config, asked)
    validation = validation_of(config, open_tasks(config.data))
    had = validation.scores(
        [
            validation.task_features(replace(model, config=config).adapter(), e)
            for e in validation.episodes
        ]
    )
    assert outcome.best.similarity >= max(scores.similarity for scores in had) - 1e-6
    assert outcome.model.config.adapt.steps == outcome.best.k
    assert outcome.model.config.adapt.lr == outcome.tried[0].setting.lr


def test_the_command_writes_a_model_that_adapts_so_and_all_that_was_tried(model, tmp_path, capsys):
    model.save(f"{tmp_path}/model.safetensors")
    arguments = [str(tmp_path), "--out", f"{tmp_path}/tuned", "--tasks", "2", "--trust", "--scopes"]
    assert run("metatrain", COMMANDS, ["tune-adaptation", *arguments]) == 0
    tuned = load_model(f"{tmp_path}/tuned")
    tried = json.loads((tmp_path / "tuned/adaptation.json").read_text())
    assert tuned.config.adapt.lr == tried[0]["candidate"]["lr"]
    assert "own task" in capsys.readouterr().out
    for name, value in model.parameters.items():
        assert torch.equal(tuned.parameters[name], value)
