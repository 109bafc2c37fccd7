"""Writes, listings and deletions through faults: all of it arrives, or none of it is seen."""

import hashlib
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from fault_proxy import WRITING, FaultProxy, every, first

from metatrain.base.errors import UserError
from metatrain.data.packed import writer as shards
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.storage import multipart, retry
from metatrain.storage.files import read_file, sha256_of, sizes_under, write_chunks
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.checkpoint.index import COMMIT
from metatrain.training.initial_weights import initial_weights
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
    checkpoints, state = CheckpointStore(f"{s3}/run"), first_state(initial_weights(config))
    for step in (5, 10, 15):
        checkpoints.save(draft_of(replace(state, step=step), config))
    assert checkpoints.steps() == [10, 15]
    result = checkpoints.latest()
    assert result.step == 15
    assert all(torch.equal(p, result.parameters[n]) for n, p in state.parameters.items())


@pytest.mark.parametrize("fault", WRITING)
def test_a_file_in_parts_arrives_whole_through_a_fault(proxy, s3, monkeypatch, fault):
    monkeypatch.setattr(multipart, "_PART_BYTES", 5 * 2**20)
    data = np.random.default_rng(0).bytes(11 * 2**20)
    proxy.prone = lambda asked: True
    proxy.fault = every(3, (fault,))
    write_chunks(f"{s3}/run/large", [data[:7_000_000], data[7_000_000:]])
    assert {"POST", "PUT"} <= {asked.method for asked in proxy.asked}
    assert any(asked.fault for asked in proxy.asked)
    assert read_file(f"{s3}/run/large") == data
    assert sha256_of(f"{s3}/run/large") == hashlib.sha256(data).hexdigest()


def test_a_file_in_parts_is_there_though_nobody_heard_that_it_was_complete(proxy, s3, monkeypatch):
    monkeypatch.setattr(multipart, "_PART_BYTES", 5 * 2**20)
    proxy.prone = lambda asked: asked.method == "POST"
    proxy.fault = lambda place, asked: "unanswered" if place == 1 else None
    write_chunks(f"{s3}/run/large", [bytes(11 * 2**20)])
    assert [asked.fault for asked in proxy.asked if asked.method == "POST"][:2] == [
        None,
        "unanswered",
    ]
    assert read_file(f"{s3}/run/large") == bytes(11 * 2**20)


def test_nothing_is_seen_or_kept_of_a_file_whose_parts_fail(proxy, s3, monkeypatch):
    monkeypatch.setattr(multipart, "_PART_BYTES", 5 * 2**20)
    refuse(proxy, "large")
    with pytest.raises(UserError, match=f"cannot reach {s3}/run/large"):
        write_chunks(f"{s3}/run/large", [bytes(11 * 2**20)])
    mend(proxy)
    assert sizes_under(f"{s3}/run") == {}
    assert "DELETE" in {asked.method for asked in proxy.asked}


def test_a_checkpoint_that_cannot_be_uploaded_leaves_the_one_before(proxy, s3, config):
    checkpoints, state = CheckpointStore(f"{s3}/run"), first_state(initial_weights(config))
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
