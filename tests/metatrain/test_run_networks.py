"""A metric network that a run has is used by whatever needs one, and never trained anew."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from small_models import FEW, metatrain, save

import metatrain as interface
from metatrain.config import load_config
from metatrain.data.loader import open_tasks
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.run_networks import networks_of
from metatrain.evaluation.validation import validation_of
from metatrain.metrics import network as networks
from metatrain.metrics.network import NETWORK, metric_network
from metatrain.model.file import load_model

SHAPE: dict[str, Any] = {"image_size": 16, "channels": 1}


@pytest.fixture(scope="module")
def trained(packed, tmp_path_factory) -> Path:
    """The file of a metric network of the packed stripes."""
    url = tmp_path_factory.mktemp("network") / NETWORK
    metric_network(EpisodeStore(packed), str(url), **SHAPE)
    return url


@pytest.fixture
def run(packed, trained, tmp_path, monkeypatch) -> Path:
    """A run that validated itself, where no network can be trained any more."""
    folder = Path(save(packed, tmp_path / "run", "run.name=run"))
    shutil.copy(trained, folder)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a metric network is trained again")

    monkeypatch.setattr(networks, "train_metric_network", refuse)
    return folder


COMMANDS = {
    "evaluate": ["evaluate", "{run}", *FEW, "--workers", 1],
    "calibrate": ["calibrate", "{run}", "--seeds", 1, "--workers", 1],
    "tune-adaptation": ["tune-adaptation", "{run}", "--tasks", 2, "--scopes", "--out", "{out}"],
    "combine": [
        "combine",
        "greedy",
        "{run}",
        "{other}",
        "--tasks",
        2,
        "--out",
        "{out}/m.safetensors",
    ],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_uses_the_network_of_the_run(command, run, packed, trained, tmp_path):
    other = save(packed, tmp_path / "other", "run.name=other", "seed=3")
    places = {"run": run, "other": other, "out": tmp_path / "out"}
    words = [str(word).format(**places) for word in COMMANDS[command]]
    assert metatrain(*words) == 0
    folder = run / "evaluation" if command in ("evaluate", "calibrate") else tmp_path / "out"
    assert (folder / NETWORK).read_bytes() == trained.read_bytes()


def test_the_interface_uses_the_network_of_the_run(run):
    interface.evaluate(run, split="train", tasks=3, seeds=1, shots=3, workers=1)


def test_validation_uses_the_network_of_an_earlier_evaluation(packed, run):
    (run / "evaluation").mkdir()
    (run / NETWORK).rename(run / "evaluation" / NETWORK)
    words = [f"run.dir={run.parent}", "run.name=run", f"data.path={packed}", "data.image_size=16"]
    config = load_config(None, [*words, "validation.tasks=2", "data.shots=3"])
    validation_of(config, open_tasks(config.data))
    assert (run / NETWORK).exists()


def test_a_checkpoint_and_a_name_in_the_configuration_lead_to_the_network(packed, run, tmp_path):
    named = tmp_path / "named"
    model = load_model(save(packed, tmp_path / "m", f"validation.network={named}"))
    url = f"{run}/checkpoints/step-00000007/model.safetensors"
    assert networks_of(model, url)[0] == str(named)
    assert str(run / NETWORK) in networks_of(model, url)


def test_a_place_elsewhere_that_an_untrusted_model_names_is_not_asked(packed, tmp_path):
    model = load_model(save(packed, tmp_path / "m", "validation.network=http://host/network"))
    assert not any("host" in url for url in networks_of(model, f"{tmp_path}/m/model.safetensors"))


def test_a_network_of_other_images_is_no_network_of_the_run(packed, trained, tmp_path):
    (tmp_path / "damaged").write_bytes(b"no network")
    known = [f"{tmp_path}/none", f"{tmp_path}/damaged", str(trained)]
    result = metric_network(
        EpisodeStore(packed), f"{tmp_path}/{NETWORK}", image_size=8, channels=1, known=known
    )
    again = metric_network(
        EpisodeStore(packed), f"{tmp_path}/again", image_size=16, channels=1, known=known
    )
    assert (tmp_path / "again").read_bytes() == trained.read_bytes()
    assert result.sha256 != again.sha256
