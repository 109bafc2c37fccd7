"""A run's folder that a stranger has filled: leases and checkpoints that are something else."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.model.build import build_theta
from metatrain.storage import lease as leases
from metatrain.storage.lease import lease
from metatrain.storage.lease_holder import parse_holder, this_holder
from metatrain.training.auto_values import kept_values
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.checkpoint.index import COMMIT, INDEX, StoredSlice, sha256
from metatrain.training.state import first_state

STRANGE: dict[str, Callable[[Path], object]] = {
    "is a link, and is not followed": lambda path: path.symlink_to("secret"),
    "can be neither created nor read": lambda path: path.symlink_to("/nowhere/x"),
    "is a folder": lambda path: path.mkdir(),
    "is a pipe": os.mkfifo,
    "is a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("sentence", STRANGE)
def test_what_is_no_lease_is_refused_and_stays(sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(leases, "_LOOK_SECONDS", 0.1)
    (tmp_path / "secret").write_text("kept")
    STRANGE[sentence](tmp_path / "lease.json")
    with pytest.raises(UserError, match=sentence), lease(str(tmp_path), "trains"):
        pass
    assert (tmp_path / "secret").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lease.json", "secret"]


@pytest.mark.parametrize(
    "change",
    [
        {"beats": float("inf")},
        {"beats": 1.5},
        {"beats": True},
        {"process": {"pid": 1.5}},
        {"process": {"pid": "1"}},
        {"process": {"pid": -1}},
        {"process": {"started": [1]}},
        {"process": {"kernel": None}},
        {"host": "a\x1b[2J"},
        {"user": "a\u202eb"},
    ],
)
def test_a_lease_of_impossible_values_names_nobody(change):
    whole = json.loads(this_holder("trains").encode())
    assert parse_holder(json.dumps(whole).encode()) is not None
    change = change | {"process": whole["process"] | change.get("process", {})}
    assert parse_holder(json.dumps(whole | change).encode()) is None


@pytest.fixture
def run(tmp_path):
    """The folder of a run with one checkpoint, of step 0."""
    config = load_config(None, ["data.image_size=8", "generator.width=8", "data.shots=2"])
    draft = draft_of(first_state(build_theta(config).copy()), config)
    store = CheckpointStore(str(tmp_path))
    store.save(draft)
    return store, draft


@pytest.mark.parametrize("name", ["step-5", "step-000000005", "step-٠٠٠٠٠٠٠٥", "step-" + "9" * 200])
def test_a_folder_that_no_step_has_is_neither_read_nor_removed(run, name):
    store, draft = run
    folder = Path(store.url, name)
    folder.mkdir()
    (folder / COMMIT).write_text("{}")
    assert store.steps() == [0]
    store.save(draft)
    assert (folder / COMMIT).exists()
    assert store.newest().step == 0


def test_a_slice_that_ends_before_it_starts_is_damage(run):
    store, _ = run
    index = Path(store.folder(0), INDEX)
    values = json.loads(index.read_bytes())
    _, record = next(iter(values["tensors"].items()))
    [piece] = record["pieces"]
    stop = piece["stop"]
    record["pieces"] = [piece | {"stop": stop + 2}, piece | {"start": stop + 2, "stop": stop}]
    data = json.dumps(values).encode()
    index.write_bytes(data)
    index.with_name(COMMIT).write_text(json.dumps({"step": 0, "index": sha256(data)}))
    with pytest.raises(UserError, match="a slice ends before it starts"):
        store.open(0)
    with pytest.raises(ValueError, match="ends before"):
        StoredSlice(file="model.safetensors", start=5, stop=3)


@pytest.mark.parametrize("settled", ["[" * 100_000, "[]", '{"meta.microbatch": []}', "5", "\xff"])
def test_choices_that_a_stranger_kept_are_made_anew(settled, tmp_path, monkeypatch):
    config = load_config(None, [f"run.dir={tmp_path}", "run.name=r"])
    store = CheckpointStore(config.run.url)
    monkeypatch.setattr(store, "steps", lambda: [0, 5])
    Path(config.run.url).mkdir()
    Path(config.run.url, "settled.json").write_text(settled)
    assert kept_values(config, store) == {}
