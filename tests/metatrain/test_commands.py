"""From a trained model to a picture, by the commands a person types, with torch alone."""

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from metatrain.base.errors import MissingStepError, UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.data.packed.manifest import MANIFEST
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.training.run_data import RUN_MANIFEST


@pytest.fixture
def trained(config, packed, tmp_path):
    parameters = {n: p.detach() for n, p in build_theta(config).named().items()}
    Model(config, parameters, step=3).save(f"{tmp_path}/run/model.safetensors")
    shutil.copy(f"{packed}/{MANIFEST}", tmp_path / "run" / RUN_MANIFEST)
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


@pytest.fixture
def adapted(trained, five_images, tmp_path):
    assert metatrain("adapt", trained, five_images, "--out", tmp_path / "new", "--steps", 2) == 0
    return tmp_path / "new"


def test_images_are_written_as_files_of_any_kind(adapted, tmp_path):
    few = ("-n", 3, "--steps", 1)
    assert metatrain("generate", adapted, *few, "--out", tmp_path / "many") == 0
    assert metatrain("generate", adapted, *few, "--out", f"{tmp_path}/a/", "--format", "webp") == 0
    names = [path.name for path in sorted((tmp_path / "many").iterdir())]
    assert names == ["0000.png", "0001.png", "0002.png"]
    sheet = tmp_path / "sheet.jpg"
    assert metatrain("generate", adapted, *few, "--out", sheet) == 0
    assert Image.open(sheet).format == "JPEG"
    samples = load_model(f"{adapted}/adapted.safetensors").images(3, steps=1)
    for number, sample in enumerate(samples):
        png = Image.open(tmp_path / "many" / f"{number:04}.png")
        webp = Image.open(tmp_path / "a" / f"{number:04}.webp").convert("L")
        assert png.tobytes() == webp.tobytes() == sample.tobytes()


def test_a_picture_of_another_kind_is_refused(adapted, tmp_path, capsys):
    assert metatrain("generate", adapted, "--out", tmp_path / "grid.gif") == 1
    assert "give a picture (.png, .jpg, .jpeg, .webp)" in capsys.readouterr().err
    assert not (tmp_path / "grid.gif").exists()


def test_a_small_scope_is_a_small_file_that_needs_its_model(trained, five_images, tmp_path, capsys):
    def adapt(out, *options):
        steps = ("--steps", 2, "--scope", "lora", "--out", tmp_path / out)
        assert metatrain("adapt", trained, five_images, *steps, *options) == 0
        return tmp_path / out / "adapted.safetensors"

    small, whole = adapt("small"), adapt("whole", "--whole")
    assert "needs" in capsys.readouterr().err
    assert small.stat().st_size < whole.stat().st_size
    assert load_model(str(small)).sha256 == load_model(str(whole)).sha256
    # Both may move together; where one moves alone, the model is named.
    (tmp_path / "away").mkdir()
    shutil.move(small, tmp_path / "away" / "small.safetensors")
    alone, picture = tmp_path / "away" / "small.safetensors", tmp_path / "x.png"
    command = ("generate", alone, "-n", 1, "--steps", 1, "--out", picture)
    shutil.copytree(trained, tmp_path / "moved")
    assert metatrain(*command, "--adapted-from", tmp_path / "moved") == 0
    (trained / "model.safetensors").unlink()
    assert metatrain(*command) == 1
    assert "holds what adaptation changed of another model" in capsys.readouterr().err
    save_file({"a": torch.zeros(1)}, trained / "model.safetensors")
    assert metatrain(*command) == 1
    assert "is not a metatrain model" in capsys.readouterr().err


def test_a_model_that_is_not_the_one_adapted_from_is_refused(trained, five_images, tmp_path):
    options = ("--scope", "lora", "--steps", 1, "--out", tmp_path / "new")
    assert metatrain("adapt", trained, five_images, *options) == 0
    model = load_model(str(trained))
    replace(model, step=model.step + 1).save(trained / "model.safetensors")
    with pytest.raises(UserError, match="than that in"):
        load_model(f"{tmp_path}/new/adapted.safetensors")


def test_a_path_in_a_file_from_elsewhere_is_not_followed(trained, five_images, tmp_path):
    options = ("--scope", "lora", "--steps", 1, "--out", tmp_path / "new")
    assert metatrain("adapt", trained, five_images, *options) == 0
    data = (tmp_path / "new" / "adapted.safetensors").read_bytes()
    fsspec.filesystem("memory").pipe("/strange/adapted.safetensors", data)
    with pytest.raises(UserError, match="is not followed"):
        load_model("memory://strange/adapted.safetensors")
    known = load_model("memory://strange/adapted.safetensors", adapted_from=str(trained))
    assert known.support is not None


def test_adapting_may_change_how_it_adapts_and_nothing_else(trained, five_images, tmp_path, capsys):
    command = ("adapt", trained, five_images, "--out", tmp_path / "new")
    assert metatrain(*command, "adapt.steps=3", "inner.optimizer=adam", "--lr", 0.01) == 0
    config = load_model(f"{tmp_path}/new/adapted.safetensors").config
    assert (config.adapt.steps, config.adapt.lr, config.inner.optimizer) == (3, 0.01, "adam")
    assert metatrain(*command, "generator.width=16") == 1
    assert "generator.width was settled by training" in capsys.readouterr().err
    assert metatrain("adapt", tmp_path / "new/adapted.safetensors", *command[2:]) == 1
    assert "has been adapted already" in capsys.readouterr().err
    assert metatrain("adapt", tmp_path / "new", *command[2:]) == 1
    assert "new holds an adapted model; give the one that it came" in capsys.readouterr().err


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


def test_an_image_that_cannot_be_used_is_named(trained, five_images, tmp_path, capsys):
    broken = five_images / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    assert metatrain("adapt", trained, broken, "--out", tmp_path / "out") == 1
    assert "broken.png cannot be used" in capsys.readouterr().err
    assert metatrain("adapt", trained, five_images, "--out", tmp_path / "out") == 0
    assert f"passed over {broken}: unknown format" in capsys.readouterr().err


def test_config_prints_what_it_would_use(capsys):
    assert metatrain("config", "inner.lr=0.25") == 0
    assert "lr: 0.25" in capsys.readouterr().out


def test_wrong_usage_exits_with_2():
    command = [sys.executable, "-c", "from metatrain.cli.main import main; main()", "generate"]
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_a_missing_step_passes_from_a_worker_to_its_parent():
    error = pickle.loads(pickle.dumps(MissingStepError("nothing here; adapt it first.", "adapt")))
    assert (str(error), error.step) == ("nothing here; adapt it first.", "adapt")
