import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fsspec.implementations.local import LocalFileSystem

from metatrain.base.errors import UserError
from metatrain.config import CheckpointConfig
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.training.checkpoint import CheckpointStore, DamagedError, Peers, draft_of, writing
from metatrain.training.checkpoint.index import sha256
from metatrain.training.fragments import Fragment
from metatrain.training.state import TrainState


def state(config, step):
    parameters = {n: p.detach() + step for n, p in build_theta(config).named().items()}
    average = {n: p + 1 for n, p in parameters.items()}
    optimizer = {f"{n}/exp_avg": p * 2 for n, p in parameters.items()}
    optimizer["step"] = torch.tensor(float(step))
    # Tasks are named by strangers: a slash, and a name that could be another part's.
    by_task = {task: {"out.weight": torch.full((2,), step)} for task in ("a/b", "optimizer/", "é")}
    history = [{"step": step, "loss": 0.5}]
    return TrainState(step, parameters, average, optimizer, history, by_task)


def assert_same(a, b):
    assert (a.step, a.history) == (b.step, b.history)
    assert a.by_task.keys() == b.by_task.keys()
    trees = [(a.parameters, b.parameters), (a.average, b.average), (a.optimizer, b.optimizer)]
    for tree_a, tree_b in [*trees, *((a.by_task[task], b.by_task[task]) for task in a.by_task)]:
        assert tree_a.keys() == tree_b.keys()
        assert all(torch.equal(tree_a[n], tree_b[n]) for n in tree_a)


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path):
    return str(tmp_path / "run") if request.param == "local" else f"memory://{tmp_path.name}/run"


def test_the_newest_checkpoint_comes_back_bit_for_bit(run, config):
    store = CheckpointStore(run)
    assert store.latest() is None
    for step in (5, 10, 15):
        store.save(draft_of(state(config, step), config))
    assert_same(CheckpointStore(run).latest(), state(config, 15))
    assert store.steps() == [10, 15]


def test_a_checkpoint_holds_the_average_as_a_model_of_its_own(run, config):
    store = CheckpointStore(run)
    store.save(draft_of(state(config, 5), config))
    model = load_model(store.folder(5))
    assert all(torch.equal(model.parameters[n], p) for n, p in state(config, 5).average.items())


def together(world, work):
    """What `work` returns for each of `world` peers, that run in threads of this process."""
    barrier, slots = threading.Barrier(world, timeout=60), [None] * world

    def run(rank):
        def gather(own):
            slots[rank] = own
            barrier.wait()
            everyones = list(slots)
            barrier.wait()
            return everyones

        return work(Peers(rank, world, gather))

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))


def writer(store, state, config):
    """For `together`: each of the peers writes its part."""
    return lambda peers: store.save(draft_of(state, config, peers), peers)


@pytest.mark.parametrize("world", [2, 5])
def test_what_many_wrote_together_any_number_reads_whole_or_in_slices(run, config, world):
    store = CheckpointStore(run)
    together(world, writer(store, state(config, 5), config))
    assert_same(store.latest(), state(config, 5))
    for found in together(3, store.latest):
        assert_same(found, state(config, 5))
    checkpoint = store.open(5)
    wanted = {name: (n // 3, n // 2) for name, n in sizes(checkpoint).items()}
    wholes = checkpoint.tensors()
    for name, values in checkpoint.slices(wanted).items():
        assert torch.equal(values, wholes[name].flatten()[slice(*wanted[name])])


def sizes(checkpoint):
    shapes = {name: record.shape for name, record in checkpoint.index.tensors.items()}
    return {name: torch.Size(shape).numel() for name, shape in shapes.items()}


def test_workers_write_even_parts_and_a_slice_costs_only_the_files_it_lies_in(
    tmp_path, config, monkeypatch
):
    monkeypatch.setattr(writing, "_FILE_BYTES", 2_000)
    store = CheckpointStore(str(tmp_path))
    together(4, writer(store, state(config, 5), config))
    files = store.open(5).index.files
    shares = [sum(f.bytes for n, f in files.items() if f"shard-{r:05d}" in n) for r in range(4)]
    assert max(shares) < 1.2 * min(shares)
    name, size = max(sizes(store.open(5)).items(), key=lambda item: item[1])
    [first, *rest] = [piece.file for piece in store.open(5).index.tensors[name].pieces]
    assert rest
    checkpoint = store.open(5)
    expected = checkpoint.tensors()[name].flatten()[:3]
    for file in files:
        if file != first:
            (Path(store.folder(5)) / file).unlink()
    assert torch.equal(checkpoint.slices({name: (0, 3)})[name], expected)
    with pytest.raises(DamagedError, match=f"{rest[0]} is missing"):
        checkpoint.slices({name: (0, size)})


@pytest.mark.parametrize(
    "name", ["shard-00000-of-00001-00000.safetensors", "index.json", "commit.json"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_newest_whole_one_is_used(
    tmp_path, config, name, damage
):
    refused = []
    store = CheckpointStore(str(tmp_path), refused.append)
    for step in (5, 10):
        store.save(draft_of(state(config, step), config))
    file = tmp_path / "checkpoints" / "step-00000010" / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[:-1])
    else:
        content[-5] ^= 1
        file.write_bytes(content)
    assert_same(store.latest(), state(config, 5))
    if (name, damage) == ("commit.json", "missing"):
        return  # which is what a checkpoint looks like that was never finished
    assert len(refused) == 1
    assert f"{store.folder(10)} cannot be used: " in refused[0]
    assert name in refused[0] or name == "commit.json"


def test_damage_that_one_worker_finds_sends_all_of_them_to_an_earlier_checkpoint(tmp_path, config):
    refused = []
    store = CheckpointStore(str(tmp_path), refused.append)
    for step in (5, 10):
        together(2, writer(store, state(config, step), config))
    file = tmp_path / "checkpoints" / "step-00000010" / "shard-00001-of-00002-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    def read_part(peers):
        def read(checkpoint):
            checkpoint.tensors(["average", "parameters"][peers.rank])
            return checkpoint.step

        return store.latest(peers, read)

    assert together(2, read_part) == [5, 5]
    assert len(refused) == 1


def test_an_unfinished_save_is_no_checkpoint_and_the_next_one_takes_it_away(tmp_path, config):
    store = CheckpointStore(str(tmp_path))
    store.save(draft_of(state(config, 5), config))
    torn = tmp_path / "checkpoints" / "step-00000010"
    torn.mkdir()
    (torn / "shard-00000-of-00002-00000.safetensors.partial").write_bytes(b"half")
    assert store.latest().step == 5
    for step in (10, 15):
        store.save(draft_of(state(config, step), config))
        files = {file.name for file in (tmp_path / "checkpoints").rglob("*-of-*")}
        assert files == {"shard-00000-of-00001-00000.safetensors"}


def test_the_last_n_checkpoints_are_kept_and_the_one_of_the_lowest_loss(run, config):
    store = CheckpointStore(run)
    for step, loss in [(5, 0.9), (10, 0.1), (15, 0.5), (20, 0.6), (25, 0.7)]:
        history = [{"step": s, "loss": 0.1 if s < step else loss} for s in range(1, step + 1)]
        store.save(replace(draft_of(state(config, step), config), history=history))
    assert store.steps() == [10, 20, 25]
    two = config.model_copy(update={"checkpoint": CheckpointConfig(keep=2, best=False)})
    store.save(draft_of(state(config, 30), two))
    assert store.steps() == [25, 30]


def test_a_damaged_future_does_not_crowd_out_the_checkpoints_that_are_whole(tmp_path, config):
    store = CheckpointStore(str(tmp_path), lambda line: None)
    one = config.model_copy(update={"checkpoint": CheckpointConfig(keep=1)})
    store.save(draft_of(state(config, 400), one))
    (tmp_path / "checkpoints" / "step-00000400" / "index.json").write_bytes(b"[")
    store.save(draft_of(state(config, 40), one))
    assert store.steps() == [40]
    assert store.latest().step == 40


def test_slices_that_do_not_make_up_the_tensors_are_not_committed(tmp_path, config):
    store = CheckpointStore(str(tmp_path))
    draft = draft_of(state(config, 5), config)
    hole = [Fragment("parameters/w", (4,), 1, torch.zeros(3))]
    with pytest.raises(UserError, match="slices of parameters/w are not those of one tensor"):
        store.save(replace(draft, fragments=[*draft.fragments, *hole]))
    assert store.steps() == []
    assert not Path(store.folder(5)).exists()


def test_what_a_stranger_s_index_names_is_not_followed(tmp_path, config):
    store = CheckpointStore(str(tmp_path), lambda line: None)
    store.save(draft_of(state(config, 5), config))
    folder = Path(store.folder(5))
    index = (folder / "index.json").read_text().replace("shard-00000", "../../shard-00000")
    (folder / "index.json").write_text(index)
    commit = {"step": 5, "index": sha256(index.encode())}
    (folder / "commit.json").write_text(json.dumps(commit))
    with pytest.raises(DamagedError, match="should match pattern"):
        store.open(5)


def test_any_character_may_stand_in_a_run_s_path(tmp_path, config):
    store = CheckpointStore(f"{tmp_path}/a[b]*?/run")
    store.save(draft_of(state(config, 5), config))
    assert store.latest().step == 5


def test_storage_that_fails_is_not_mistaken_for_a_run_without_checkpoints(
    tmp_path, config, monkeypatch
):
    store = CheckpointStore(str(tmp_path))
    store.save(draft_of(state(config, 5), config))

    def refuse(*_, **__):
        raise PermissionError("access denied")

    for place, name in ((LocalFileSystem, "cat_file"), (os, "scandir")):
        with monkeypatch.context() as patched, pytest.raises(UserError, match="access denied"):
            patched.setattr(place, name, refuse)
            store.latest()


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(tmp_path, config):
    store = CheckpointStore(str(tmp_path), lambda line: None)
    store.save(draft_of(state(config, 5), config))
    for shard in Path(store.folder(5)).glob("shard-*"):
        shard.write_bytes(b"")
    with pytest.raises(UserError, match="none of them can be used; move them away, or choose"):
        store.latest()
