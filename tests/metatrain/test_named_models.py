"""Models by name: resolved everywhere, listed, and shipped with a card."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_models import metatrain, save

import metatrain as package
from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.model import named
from metatrain.model.calibration import Calibration
from metatrain.model.file import load_model, save_adapted
from metatrain.model.places import ADAPTED, state_folder
from metatrain.model.portable import portable
from metatrain.training.initial_weights import initial_weights


@pytest.fixture
def models(packed, tmp_path, monkeypatch):
    """A working directory, and a folder of METATRAIN_MODELS with a file and a run."""
    folder = tmp_path / "shelf"
    save(packed, folder / "stripes", "inner.scope.name=film", "run.name=stripes")
    model = portable(load_model(f"{folder}/stripes"), "small")
    model.save(f"{folder}/small.safetensors")
    (folder / "small.md").write_text("# small\n\nMore of a few stripes. Of two colours.\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("METATRAIN_MODELS", str(folder))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(named, "SHIPPED", tmp_path / "none")
    named._tell_of_local.cache_clear()
    return folder


def support():
    return torch.rand(3, 1, 16, 16) * 2 - 1


def test_a_name_means_a_file_or_a_run_on_the_shelf(models):
    assert package.load("small").sha256 == package.load(models / "small.safetensors").sha256
    assert package.load("stripes").sha256 == package.load(models / "stripes").sha256


def test_a_model_in_the_working_directory_comes_first_and_says_so(models, packed, caplog):
    save(packed, "small", "seed=5")
    assert package.load("small").config.seed == 5
    assert "'small' is the folder ./small" in caplog.text
    # A folder without a model hides nothing.
    Path("stripes").mkdir()
    assert package.load("stripes").config.run.name == "stripes"


def test_an_earlier_folder_comes_first(models, tmp_path, monkeypatch):
    first = tmp_path / "first"
    package.load("stripes").save(first / "small.safetensors")
    monkeypatch.setenv("METATRAIN_MODELS", f"{first}{os.pathsep}{models}")
    assert package.load("small").config.run.name == "stripes"


def test_a_wrong_name_names_one_like_it(models, packed):
    with pytest.raises(UserError, match="did you mean 'small'"):
        package.load("smal")
    with pytest.raises(UserError, match=r"run\.init is smal, .*did you mean 'small'"):
        initial_weights(load_config(None, ["run.init=smal"]))


def test_a_wrong_folder_is_told(monkeypatch):
    monkeypatch.setenv("METATRAIN_MODELS", "/nowhere/models")
    with pytest.raises(UserError, match="METATRAIN_MODELS names /nowhere/models"):
        package.load("small")


def test_a_run_starts_from_a_name(models):
    config = load_model("small").config
    run = config.run.model_copy(update={"init": "small"})
    weights = initial_weights(config.model_copy(update={"run": run}))
    expected = load_model("small").parameters
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_an_adapted_model_refers_to_a_name(models, tmp_path, monkeypatch):
    adapted = load_model("small").adapt(support())
    assert save_adapted(adapted, "new/adapted.safetensors", "small")
    # The name holds wherever both are.
    models.rename(tmp_path / "moved")
    monkeypatch.setenv("METATRAIN_MODELS", str(tmp_path / "moved"))
    Path("new").rename("elsewhere")
    again = load_model("elsewhere/adapted.safetensors")
    assert again.sha256 == adapted.sha256
    monkeypatch.delenv("METATRAIN_MODELS")
    with pytest.raises(UserError, match="small, which is not known here by that name"):
        load_model("elsewhere/adapted.safetensors")
    assert load_model("elsewhere/adapted.safetensors", str(tmp_path / "moved/small.safetensors"))


def test_commands_take_names(models, packed, capsys):
    images = Path("images")
    for index, image in enumerate(load_model("small").adapt(support()).images(3)):
        images.mkdir(exist_ok=True)
        image.save(images / f"{index}.png")
    assert metatrain("adapt", "small", images, "--out", "new") == 0
    assert metatrain("generate", "new", "-n", 2, "--out", "sheet.png") == 0
    capsys.readouterr()
    assert metatrain("generate", "small", "--out", "sheet.png") == 1
    assert "has not been adapted" in capsys.readouterr().err
    few = ["--split", "train", "--tasks", 3, "--seeds", 1, "--shots", 3, "--workers", 1]
    assert (
        metatrain("evaluate", "small", "--data", packed, *few, "--out", "models/small/evaluation")
        == 0
    )
    assert metatrain("report", "small") == 0
    assert Path("models/small/report/index.html").is_file()
    capsys.readouterr()
    assert metatrain("models") == 0
    table = capsys.readouterr().out
    assert "More of a few stripes." in table and "colours" not in table
    assert "stripes" in table
    assert metatrain("models", "small") == 0
    assert capsys.readouterr().out.startswith("# small")


def test_a_file_that_is_no_model_is_left_out_of_the_list(models, caplog):
    (models / "broken.safetensors").write_bytes(b"\x07" * 40)
    references = [model.reference for model in package.models()]
    assert references == ["small", "stripes"]
    assert "broken is left out" in caplog.text


def test_what_the_studio_has_adapted_is_listed(models, capsys):
    files = [state_folder("studio") / name / ADAPTED for name in ("z", "a")]
    for time, file in enumerate(files):
        load_model("small").adapt(support()).save(file)
        os.utime(file, (time, time))
    # Adaptations without a model yet, and files of others, are none.
    (state_folder("studio") / "waiting").mkdir()
    assert [model.reference for model in package.models()[-2:]] == [*map(str, files)]
    assert metatrain("models") == 0
    assert capsys.readouterr().out.count("adapted to 3 images") == 2
    assert metatrain("generate", package.models()[-1].reference, "--out", "sheet.png") == 0


def test_models_are_listed_where_a_user_has_no_home(models, monkeypatch, capsys):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert [model.reference for model in package.models()] == ["small", "stripes"]
    with pytest.raises(UserError, match=r"no home folder; give --dir, or set HOME\."):
        state_folder("studio")


def test_half_precision_is_written_where_it_is_exact(models, tmp_path):
    full_file = models / "stripes/model.safetensors"
    half, full = load_file(models / "small.safetensors"), load_file(full_file)
    kinds = {name: tensor.dtype for name, tensor in half.items() if name.startswith("parameters/")}
    assert set(kinds.values()) == {torch.float16}
    assert {t.dtype for n, t in full.items() if n.startswith("parameters/")} == {torch.float32}
    before, after = portable(load_model("stripes"), "small"), load_model("small")
    assert before.sha256 == after.sha256
    # Calibrating and saving again keeps both.
    nearer = torch.zeros(1, 1, 2, dtype=torch.int32)
    calibration = Calibration(after.sha256, "b", 3, torch.zeros(1, 8), torch.zeros(1), nearer)
    replace(after, calibration=calibration).save(tmp_path / "again.safetensors")
    again = load_model(str(tmp_path / "again.safetensors"))
    assert again.sha256 == after.sha256
    assert again.calibration is not None
    assert (tmp_path / "again.safetensors").stat().st_size < 0.6 * full_file.stat().st_size


def test_no_place_of_this_machine_is_given_away(models, packed):
    model = load_model("stripes")
    assert Path(packed).is_absolute()
    assert str(packed) in model.config.model_dump_json()
    assert str(packed) not in portable(model, "small").config.model_dump_json()


def test_what_half_precision_cannot_hold_is_refused(models):
    model = load_model("stripes")
    name = next(iter(model.parameters))
    model.parameters[name].view(-1)[0] = 1e6
    with pytest.raises(UserError, match=f"half precision cannot hold {name}"):
        portable(model, "small")


def test_our_own_models_are_small_and_have_cards():
    for file in named.SHIPPED.glob("*.safetensors"):
        assert file.stat().st_size <= 4_000_000
        model = load_model(str(file))
        assert model.config.run.name == file.stem
        assert model.calibration is not None
        assert model.calibration.model == model.sha256
        assert model.sha256[:12] in file.with_suffix(".md").read_text()


def test_our_own_models_are_not_overwritten():
    with pytest.raises(UserError, match="ships with metatrain"):
        named.refuse_shipped(str(named.SHIPPED / "emoji.safetensors"))


def test_ship_makes_a_file_and_a_card_of_a_run(packed, tmp_path, monkeypatch, capsys):
    run = save(packed, tmp_path / "run", "data.shots=3")
    monkeypatch.setenv("METATRAIN_MODELS", str(tmp_path / "out"))
    few = ["--tasks", 2, "--seeds", 1, "--workers", 1]
    command = ["ship", run, "--name", "stripes", "--out", tmp_path / "out", "--trust", *few]
    assert metatrain(*command) == 0, capsys.readouterr().err
    card = (tmp_path / "out/stripes.md").read_text()
    assert str(tmp_path) not in card
    assert "TFLOP in outer gradients" in card
    assert "own task" in card
    model = package.load("stripes")
    assert model.calibration is not None
    assert model.calibration.model == model.sha256
    assert model.sha256[:12] in card


def test_a_card_is_made_of_whole_data_alone(packed, tmp_path, capsys):
    damaged = tmp_path / "data"
    shutil.copytree(packed, damaged)
    shard = damaged / "data-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    run = save(packed, tmp_path / "run", "data.shots=3")
    words = ["ship", run, "--name", "small", "--out", tmp_path / "out", "--data", damaged]
    assert metatrain(*words) == 1
    assert "is not whole: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
