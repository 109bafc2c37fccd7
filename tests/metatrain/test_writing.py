"""Writes, listings and deletions through faults: all of it arrives, or none of it is seen."""

from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch
from fault_proxy import WRITING, FaultProxy, every, first

from metatrain.base.errors import UserError
from metatrain.data.packed import writer as shards
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.model.build import build_theta
from metatrain.storage import retry
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.checkpoint.index import COMMIT
from metatrain.training.state import first_state


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(retry, "_FIRST_WAIT", 0.01)


def names(url: str) -> list[str]:
    fs, root = fsspec.core.url_to_fs(url)
    return sorted(path.rpartition("/")[2] for path in fs.find(root))


def refuse(proxy: FaultProxy, name: str) -> None:
    """From now on no upload of a file of this name succeeds."""
    proxy.prone = lambda asked: asked.method == "PUT" and asked.path.endswith(name)
    proxy.fault = lambda *_: "error"


def mend(proxy: FaultProxy) -> None:
    proxy.fault = lambda *_: None


@pytest.mark.parametrize("fault", WRITING)
def test_packing_through_a_fault_gives_the_same_data_set(proxy, s3, images, packed, fault):
    proxy.prone = lambda asked: True
    proxy.fault = every(3, (fault,))
    pack(images, f"{s3}/set")
    assert any(asked.fault for asked in proxy.asked)
    mend(proxy)
    assert EpisodeStore(f"{s3}/set").fingerprint == EpisodeStore(packed).fingerprint
    assert names(f"{s3}/set") == ["data-00000.parquet", MANIFEST]


def test_a_burst_of_slow_downs_is_sat_out(proxy, s3, images, packed):
    proxy.prone = lambda asked: True
    proxy.fault = first(4, "slow down")
    pack(images, f"{s3}/set")
    assert EpisodeStore(f"{s3}/set").fingerprint == EpisodeStore(packed).fingerprint


@pytest.mark.parametrize("name", ["data-00000.parquet", "data-00001.parquet", MANIFEST])
def test_an_upload_that_fails_for_good_leaves_no_data_set_and_the_next_run_packs_it(
    proxy, s3, images, packed, monkeypatch, name
):
    monkeypatch.setattr(shards, "SHARD_BYTES", 20_000)
    refuse(proxy, name)
    with pytest.raises(UserError, match=rf"cannot reach {s3}/set/{name}: .*\.$"):
        pack(images, f"{s3}/set")
    with pytest.raises(UserError, match=f"{s3}/set"):
        EpisodeStore(f"{s3}/set")
    mend(proxy)
    assert not pack(images, f"{s3}/set").already_packed
    there, here = EpisodeStore(f"{s3}/set"), EpisodeStore(packed)
    assert [there.read(task) for task in there.tasks("val")] == [
        here.read(task) for task in here.tasks("val")
    ]
    assert "packing" not in names(f"{s3}/set")


@pytest.mark.parametrize("name", ["data-00001.parquet", MANIFEST])
def test_adding_that_fails_for_good_leaves_what_was_there(
    proxy, s3, images, packed, tmp_path, name
):
    more = tmp_path / "more" / "new"
    more.mkdir(parents=True)
    for file in (Path(images) / "task-02").iterdir():
        (more / file.name).write_bytes(file.read_bytes())
    pack(images, f"{s3}/set")
    before = EpisodeStore(f"{s3}/set")
    refuse(proxy, name)
    with pytest.raises(UserError, match=f"cannot reach {s3}/set/{name}"):
        pack(str(more.parent), f"{s3}/set")
    assert EpisodeStore(f"{s3}/set").fingerprint == before.fingerprint
    mend(proxy)
    pack(str(more.parent), f"{s3}/set")
    after = EpisodeStore(f"{s3}/set")
    assert set(before.row_groups) < set(after.row_groups)


def test_checkpoints_through_faults_are_saved_listed_and_pruned(proxy, s3, config):
    proxy.prone = lambda asked: True
    proxy.fault = every(3, WRITING)
    checkpoints, state = CheckpointStore(f"{s3}/run"), first_state(build_theta(config))
    for step in (5, 10, 15):
        checkpoints.save(draft_of(replace(state, step=step), config))
    assert checkpoints.steps() == [10, 15]
    found = checkpoints.latest()
    assert found.step == 15
    assert all(torch.equal(p, found.parameters[n]) for n, p in state.parameters.items())


def test_a_checkpoint_that_cannot_be_uploaded_leaves_the_one_before(proxy, s3, config):
    checkpoints, state = CheckpointStore(f"{s3}/run"), first_state(build_theta(config))
    checkpoints.save(draft_of(replace(state, step=5), config))
    refuse(proxy, COMMIT)
    with pytest.raises(UserError, match=f"cannot reach .*{COMMIT}"):
        checkpoints.save(draft_of(replace(state, step=10), config))
    assert checkpoints.steps() == [5]
    assert checkpoints.latest().step == 5


def test_a_listing_that_fails_for_good_is_no_run_without_checkpoints(proxy, s3):
    proxy.prone = lambda asked: True
    proxy.fault = first(1000, "slow down")
    with pytest.raises(UserError, match=f"cannot reach {s3}/run/checkpoints"):
        CheckpointStore(f"{s3}/run").latest()
