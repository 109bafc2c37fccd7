"""Parts of another package, by configuration alone: saved, loaded, adapted, sampled from."""

from pathlib import Path

import pytest
import torch
from metatrain_tug import TugOfWar
from safetensors.torch import save_file

import metatrain
from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.examples import Examples
from metatrain.generators.frozen import pinned
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model

GAME = ["generator.name=players", "objective.name=tug", "codec.name=halved", "data.image_size=16"]
SGD = ["inner.optimizer=sgd", "adapt.steps=300", "adapt.lr=0.1"]


@pytest.fixture
def weights(tmp_path):
    """A frozen layer that leaves what it sees as it is."""
    path, layer = tmp_path / "filter.safetensors", torch.zeros(1, 1, 3, 3)
    layer[0, 0, 1, 1] = 1
    save_file({"weight": layer}, path)
    return path


@pytest.fixture
def config(weights):
    return pinned(load_config(None, [*GAME, *SGD, f"generator.filter.path={weights}"]))


@pytest.fixture
def support():
    noise = torch.Generator().manual_seed(0)
    return Examples(torch.rand(4, 1, 16, 16, generator=noise) - 0.5)


def test_theta_is_what_trains_and_nothing_else(config):
    assert set(build_theta(config).named()) == {"network.picture.pixels", "network.critic.weights"}


def test_a_saved_model_adapts_to_the_known_answer(config, support, tmp_path):
    Model(config, build_theta(config).copy(), 0).save(f"{tmp_path}/model.safetensors")
    adapted = load_model(f"{tmp_path}/model.safetensors").adapt(support)
    mean = torch.nn.functional.avg_pool2d(support.target, 2).mean(dim=0)
    # Where neither player can do better.
    torch.testing.assert_close(
        adapted.parameters["network.picture.pixels"], mean, atol=1e-4, rtol=0
    )
    assert adapted.parameters["network.critic.weights"].abs().max() < 1e-4
    images = adapted.sample(3)
    assert images.shape == (3, 1, 16, 16)
    assert torch.equal(images, adapted.sample(3))


def game_run(folder, weights, steps):
    data = ["data.tasks.name=waves", "data.image_size=16"]
    run = [
        f"run.dir={folder}",
        "run.name=game",
        f"meta.steps={steps}",
        "meta.decay=0",
        "meta.warmup=0",
    ]
    frozen = f"generator.filter.path={weights}"
    return load_config(None, [*GAME, *SGD, *data, *run, frozen, "inner.lr=0.1"])


def test_a_game_with_a_buffer_and_frozen_weights_resumes(weights, tmp_path):
    metatrain.train(game_run(tmp_path / "a", weights, steps=2), device="cpu")
    resumed = metatrain.train(game_run(tmp_path / "a", weights, steps=4), device="cpu")
    whole = metatrain.train(game_run(tmp_path / "b", weights, steps=4), device="cpu")
    assert resumed.step == whole.step == 4
    for name, value in whole.parameters.items():
        assert torch.equal(resumed.parameters[name], value)
    grain = dict(whole.theta().named_buffers())
    for name, value in resumed.theta().named_buffers():
        assert torch.equal(grain[name], value)


def test_a_network_that_changes_its_buffers_in_training_is_refused(weights, tmp_path, monkeypatch):
    value = TugOfWar._value

    def counting(self, network, examples):
        network.get_buffer("grain").add_(1.0)
        return value(self, network, examples)

    monkeypatch.setattr(TugOfWar, "_value", counting)
    with pytest.raises(UserError, match=r"changed the buffer generator\.network\.grain"):
        metatrain.train(game_run(tmp_path, weights, steps=2), device="cpu")


def test_another_file_of_frozen_weights_is_refused(config, weights):
    assert config.generator.filter.sha256
    save_file({"weight": torch.ones(1, 1, 3, 3)}, weights)
    with pytest.raises(UserError, match=r"filter\.safetensors has sha256 .* was trained with"):
        build_theta(config)


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({}, "lacks tensor weight"),
        ({"weight": torch.ones(1, 1, 3, 3), "bias": torch.ones(1)}, "has an unknown tensor bias"),
        ({"weight": torch.ones(2, 1, 3, 3)}, "has another tensor weight"),
    ],
)
def test_weights_of_another_network_are_named(weights, tensors, fault):
    save_file(tensors, weights)
    with pytest.raises(UserError, match=fault):
        build_theta(load_config(None, [*GAME, f"generator.filter.path={weights}"]))


def test_a_file_that_is_no_safetensors_is_a_sentence(weights):
    Path(weights).write_bytes(b"PK pickle")
    with pytest.raises(UserError, match="is no safetensors file"):
        build_theta(load_config(None, [*GAME, f"generator.filter.path={weights}"]))


def test_a_network_that_an_objective_cannot_train_is_a_sentence():
    with pytest.raises(UserError, match=r"objective\.name=flow needs a generator that predicts"):
        build_theta(load_config(None, ["generator.name=players", "data.image_size=16"]))
