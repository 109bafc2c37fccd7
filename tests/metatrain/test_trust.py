"""Places that a stranger's model names: given again, or trusted, or not read."""

import re
import shutil
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file
from small_models import FEW, metatrain, save

import metatrain as api
from metatrain.base.errors import UntrustedError, UserError
from metatrain.base.section import Location, Section, location_fields
from metatrain.config import load_config, with_values
from metatrain.generators.frozen import pinned
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.training.run_data import RUN_MANIFEST

ASKED = "is not read unasked; name the data set, or trust the model. With --trust, this command"


@pytest.fixture
def server():
    """A server that keeps the paths it is asked for, and has nothing."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}", asked
    listening.shutdown()
    listening.server_close()


def theirs(packed: str, folder: Path, data: str) -> Path:
    """A model that says that its data is at `data`, with the manifest of a run around it."""
    url = save(packed, folder)
    model = load_model(url)
    moved = with_values(model.config, {"data.path": data, "validation.network": f"{data}/m"})
    replace(model, config=moved).save(f"{url}/model.safetensors")
    return folder


COMMANDS = {
    "evaluate": ["evaluate", "{model}", "--out", "{out}"],
    "calibrate": ["calibrate", "{model}", "--out", "{out}/c.safetensors"],
    "tune-adaptation": ["tune-adaptation", "{model}", "--out", "{out}"],
    "greedy": ["combine", "greedy", "{model}", "{other}", "--out", "{out}/soup.safetensors"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_url_out_of_a_model_is_not_fetched_unasked(command, packed, server, tmp_path, capsys):
    url, asked = server
    places = {"model": theirs(packed, tmp_path / "model", f"{url}/data"), "out": tmp_path / "out"}
    places["other"] = theirs(packed, tmp_path / "other", f"{url}/data")
    words = [word.format(**places) for word in COMMANDS[command]]
    assert metatrain(*words) == 1
    assert f"its data set is {url}/data, and a path out of a model file {ASKED}" in (
        capsys.readouterr().err
    )
    assert asked == []
    assert metatrain(*words, "--trust") == 1
    assert any(path.startswith("/data") for path in asked), "and trusted, it is asked for"
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").glob("*.json"))


def test_the_data_of_ones_own_run_needs_no_flag_and_a_bare_model_does(packed, tmp_path, capsys):
    few, workers = ["--split", "train", "--tasks", "3", "--seeds", "1"], ["--workers", "1"]
    run = save(packed, tmp_path / "run")
    assert metatrain("evaluate", run, *few, *workers) == 0
    network = ["--metric", f"{run}/evaluation/metric.safetensors"]
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000007"
    checkpoint.mkdir(parents=True)
    shutil.copy(f"{run}/model.safetensors", checkpoint)
    assert metatrain("evaluate", checkpoint, *few, *workers, *network) == 0
    (tmp_path / "run" / RUN_MANIFEST).unlink()
    capsys.readouterr()
    assert metatrain("evaluate", run, *few, *workers) == 1
    assert ASKED in capsys.readouterr().err
    assert metatrain("evaluate", run, *few, *workers, *network, "--data", packed) == 0
    assert metatrain("evaluate", run, *few, *workers, *network, "--trust") == 0


def test_a_run_around_a_model_is_no_word_for_other_data(packed, tmp_path, capsys):
    other = tmp_path / "private"
    shutil.copytree(packed, other)
    (other / "manifest.parquet").write_bytes(b"of other data")
    model = theirs(packed, tmp_path / "model", str(other))
    assert metatrain("evaluate", model, *FEW) == 1
    assert ASKED in capsys.readouterr().err


def test_a_model_in_python_is_trusted_on_the_callers_word_or_ones_own(packed, tmp_path):
    folder = save(packed, tmp_path / "run")
    (tmp_path / "run" / RUN_MANIFEST).unlink()
    few = {"split": "train", "tasks": 2, "seeds": 1, "shots": 3, "workers": 1, "device": "cpu"}
    with pytest.raises(UntrustedError, match="is not read unasked"):
        api.evaluate(folder, **few)
    with pytest.raises(UntrustedError, match="is not read unasked"):
        api.evaluate(api.load(folder), **few)
    with pytest.raises(UntrustedError, match="is not read unasked"):
        api.evaluate(api.load(folder).to("cpu"), **few)
    assert api.load(folder, trust=True).trusted
    assert api.evaluate(api.load(folder, trust=True), **few).result.scores


def frozen(path: str | Path, tmp_path: Path) -> str:
    """A model whose network has frozen weights at `path`, pinned by their hash."""
    layer = torch.zeros(1, 1, 3, 3)
    layer[0, 0, 1, 1] = 1
    save_file({"weight": layer}, tmp_path / "filter.safetensors")
    game = ["generator.name=players", "objective.name=tug", "codec.name=halved"]
    local = [*game, "data.image_size=16", f"generator.filter.path={tmp_path}/filter.safetensors"]
    config = pinned(load_config(None, local))
    parameters = build_theta(config).copy()
    moved = with_values(config, {"generator.filter.path": str(path)})
    Model(moved, parameters, 0).save(f"{tmp_path}/model.safetensors")
    return f"{tmp_path}/model.safetensors"


def test_frozen_weights_are_read_from_this_disk_by_their_hash_and_never_fetched(server, tmp_path):
    url, asked = server
    here = load_model(frozen(tmp_path / "filter.safetensors", tmp_path))
    assert here.generator()
    (tmp_path / "secret").write_bytes(b"something else")
    elsewhere = load_model(frozen(tmp_path / "secret", tmp_path))
    with pytest.raises(UserError, match="was trained with; name the file that was used"):
        elsewhere.generator()
    model = frozen(f"{url}/filter.safetensors", tmp_path)
    sentence = re.escape(f"the model asks for {url}/filter.safetensors, and what a model file")
    with pytest.raises(UntrustedError, match=sentence):
        load_model(model)
    assert asked == []
    with pytest.raises(UserError, match="there is nothing at"):
        load_model(model, trust=True).generator()
    assert asked
    unpinned = with_values(here.config, {"generator.filter.sha256": None})
    replace(here, config=unpinned).save(model)
    with pytest.raises(UntrustedError, match="the model asks for "):
        load_model(model)


def test_every_way_to_declare_a_location_is_seen():
    class Places(Section):
        plain: str = "s3://a"
        one: Location = "s3://b"
        other: Location | None = None
        number: int = 0

    assert location_fields(Places) == ["one", "other"]
