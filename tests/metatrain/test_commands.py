"""From a trained model to a picture, by the commands a person types, with torch alone."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from metatrain.base.errors import MissingStepError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model


@pytest.fixture
def trained(config, tmp_path):
    parameters = {n: p.detach() for n, p in build_theta(config).named().items()}
    Model(config, parameters, step=3).save(f"{tmp_path}/run/model.safetensors")
    return tmp_path / "run"


@pytest.fixture
def five_images(tmp_path):
    folder = tmp_path / "five"
    folder.mkdir()
    for i in range(5):
        Image.new("RGB", (40, 30), (50 * i, 10, 10)).save(folder / f"{i}.png")
    return folder


def metatrain(*arguments):
    return run("metatrain", COMMANDS, [str(a) for a in arguments])


def test_five_images_become_an_adapted_generator_and_a_picture(trained, five_images, tmp_path):
    out = tmp_path / "out"
    assert metatrain("adapt", trained, five_images, "--out", out) == 0
    adapted = load_model(f"{out}/adapted.safetensors")
    assert adapted.support is not None
    assert adapted.support.target.shape == (5, 1, 16, 16)
    theta = load_model(str(trained)).parameters
    assert any((adapted.parameters[n] != p).any() for n, p in theta.items())

    for name, seed in (("a", 0), ("again", 0), ("other", 1)):
        picture = out / f"{name}.png"
        arguments = ("-n", 9, "--seed", seed, "--out", picture)
        assert metatrain("generate", out / "adapted.safetensors", *arguments) == 0
    assert (out / "a.png").read_bytes() == (out / "again.png").read_bytes()
    assert (out / "a.png").read_bytes() != (out / "other.png").read_bytes()
    width, height = Image.open(out / "a.png").size
    assert width == height


def test_one_safetensors_file_holds_all_that_generating_needs(trained, five_images, tmp_path):
    assert metatrain("adapt", trained, five_images, "--out", tmp_path) == 0
    (trained / "model.safetensors").unlink()
    with safe_open(tmp_path / "adapted.safetensors", "pt") as file:
        assert json.loads(file.metadata()["config"])["generator"]["width"] == 8
        assert "support" in file.keys()  # noqa: SIM118
    arguments = ("-n", 4, "--out", tmp_path / "g.png")
    assert metatrain("generate", tmp_path / "adapted.safetensors", *arguments) == 0


def test_a_run_is_evaluated_beside_itself_and_has_a_page(trained, capsys):
    arguments = ("evaluate", trained, "--seeds", 1, "--workers", 1)
    assert metatrain(*arguments) == 0
    table = capsys.readouterr().out
    for row in ("copy-support", "unadapted", "from scratch", "small", "held-out real"):
        assert row in table
    network = (trained / "evaluation" / "metric.safetensors").read_bytes()
    assert metatrain(*arguments) == 0
    assert capsys.readouterr().out == table, "the same model has the same scores"
    assert (trained / "evaluation" / "metric.safetensors").read_bytes() == network
    assert metatrain("report", trained) == 0
    assert capsys.readouterr().out.strip() == f"{trained}/report/index.html"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["adapt", "{run}", "{run}/none", "--out", "x"], "there is no folder"),
        (["adapt", "{tmp}", "{five}", "--out", "x"], "there is no model at"),
        (["generate", "{run}/model.safetensors", "--out", "x.png"], "first: run metatrain adapt "),
        (["evaluate", "{run}", "--data", "{tmp}"], "pack it first: run metatrain pack "),
        (["report", "{run}"], "evaluate it first: run metatrain evaluate "),
        (["config", "inner.stepps=3"], "did you mean 'inner.steps'?"),
        (["pack", "{tmp}/none", "{tmp}/dest"], "no folder at"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_1(
    arguments, sentence, trained, five_images, tmp_path, capsys
):
    places = {"run": trained, "five": five_images, "tmp": tmp_path}
    assert metatrain(*[a.format(**places) for a in arguments]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not Path("x").exists()


def test_an_image_that_cannot_be_used_is_named(trained, five_images, capsys):
    (five_images / "broken.png").write_bytes(b"\x89PNG nothing")
    assert metatrain("adapt", trained, five_images, "--out", five_images) == 1
    assert "broken.png cannot be used" in capsys.readouterr().err


def test_config_prints_what_it_would_use(capsys):
    assert metatrain("config", "inner.lr=0.25") == 0
    assert "lr: 0.25" in capsys.readouterr().out


def test_wrong_usage_exits_with_2():
    command = [sys.executable, "-c", "from metatrain.cli.main import main; main()", "generate"]
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_a_missing_step_passes_from_a_worker_to_its_parent():
    error = pickle.loads(pickle.dumps(MissingStepError("nothing here; adapt it first.", "adapt")))
    assert (str(error), error.step) == ("nothing here; adapt it first.", "adapt")
