import json
import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch

from metatrain.base.errors import UserError
from metatrain.config import CheckpointConfig
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.storage import files
from metatrain.storage.tensors import read_metadata
from metatrain.training.checkpoint import (
    CheckpointStore,
    DamagedError,
    Peers,
    draft_of,
    state_of,
    writing,
)
from metatrain.training.checkpoint.index import sha256
from metatrain.training.fragments import Fragment
from metatrain.training.partition import Partition, StateParts, shapes_of
from metatrain.training.state import TrainState

# Users choose these names: one has a slash, one could be another part's name.
TASKS = ("a/b", "optimizer/", "é")


def state(config, step):
    parameters = {n: p.detach() + step for n, p in build_theta(config).named().items()}
    average = {n: p + 1 for n, p in parameters.items()}
    optimizer = {f"{n}/exp_avg": p * 2 for n, p in parameters.items()}
    optimizer["step"] = torch.tensor(float(step))
    by_task = {
        t: {"network.out.weight": p * 3} for t in TASKS for p in [parameters["network.out.weight"]]
    }
    return TrainState(
        step=step,
        parameters=parameters,
        average=average,
        optimizer=optimizer,
        history=[{"step": step, "loss": 0.5}],
        by_task=by_task,
    )


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


def test_a_checkpoint_has_the_average_as_a_model_file(run, config):
    store = CheckpointStore(run)
    store.save(draft_of(state(config, 5), config))
    model = load_model(store.folder(5))
    assert all(torch.equal(model.parameters[n], p) for n, p in state(config, 5).average.items())


class Threads(Peers):
    """Peers that are threads of this process."""

    def __init__(self, rank, world, meeting):
        self.rank, self.world = rank, world
        self.barrier, self.slots, self.lines = meeting

    def gather(self, own):
        self.slots[self.rank] = own
        self.barrier.wait()
        everyones = list(self.slots)
        self.barrier.wait()
        return everyones

    def send(self, tensor, receiver):
        self.lines[self.rank, receiver].put(tensor.clone())

    def receive(self, tensor, sender):
        tensor.copy_(self.lines[sender, self.rank].get(timeout=60))


def together(world, work):
    """Run `work` for each of `world` peers in threads of this process; return the results."""
    lines = {pair: queue.Queue() for pair in product(range(world), repeat=2)}
    meeting = threading.Barrier(world, timeout=60), [None] * world, lines
    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(lambda rank: work(Threads(rank, world, meeting)), range(world)))


def partitions_of(state, rank, world, shards):
    """Partition a state among `world` workers in groups of `shards`, in even slices."""
    shapes = shapes_of(state.parameters)
    whole = Partition.whole(shapes, copy=rank, copies=world)
    group, shard = divmod(rank, shards)
    slices = {
        name: (count * shard // shards, count * (shard + 1) // shards)
        for name, (_, count) in whole.slices.items()
    }
    theta = Partition(shapes=shapes, slices=slices, copy=group, copies=world // shards)
    return StateParts(theta=theta, memory=whole)


def local(state, partitions):
    """Return one worker's local state as it is after reading."""
    moments = {
        name: partitions.theta.cut(name.rpartition("/")[0], tensor) if "/" in name else tensor
        for name, tensor in state.optimizer.items()
    }
    parameters, average = (partitions.theta.local(t) for t in (state.parameters, state.average))
    return replace(state, parameters=parameters, average=average, optimizer=moments)


def draft_by(peers, state, config, shards=1, snapshots=None):
    """Return one worker's part of a checkpoint."""
    partitions = partitions_of(state, peers.rank, peers.world, shards)
    own = local(state, partitions)
    if peers.rank:
        del own.optimizer["step"]
    return draft_of(own, config, partitions, snapshots)


def writer(store, *of):
    """Return work for `together` in which each peer writes its part."""
    return lambda peers: store.save(draft_by(peers, *of), peers)


@pytest.mark.parametrize(("world", "shards"), [(2, 1), (5, 5), (6, 3)])
def test_any_number_of_workers_reads_what_many_wrote_whole_or_in_slices(run, config, world, shards):
    store = CheckpointStore(run)
    together(world, writer(store, state(config, 5), config, shards))
    assert_same(store.latest(), state(config, 5))
    for result in together(3, store.latest):
        assert_same(result, state(config, 5))
    for rank in range(4):
        partitions = partitions_of(state(config, 5), rank, 4, 2)
        read = partial(state_of, partitions=partitions)
        assert_same(store.latest(read=read), local(state(config, 5), partitions))
    model = load_model(store.folder(5))
    assert all(torch.equal(model.parameters[n], p) for n, p in state(config, 5).average.items())
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


def test_a_model_file_that_cannot_be_written_is_one_sentence_and_no_worker_waits(tmp_path, config):
    store, blocker = CheckpointStore(str(tmp_path)), tmp_path / "averages"
    # The first of two model files; the other workers send their fragments of both.
    snapshots, whole = {f"{blocker}/one.safetensors": "parameters"}, state(config, 5)

    def save(peers):
        store.save(draft_by(peers, whole, config, 1, snapshots), peers)

    def fail(peers):
        with pytest.raises(UserError) as error:
            save(peers)
        return str(error.value)

    blocker.write_text("a file where a folder should be")
    [problem] = set(together(3, fail))
    assert f"{blocker}/one.safetensors" in problem
    assert store.steps() == []
    blocker.unlink()
    together(3, save)
    model = load_model(f"{blocker}/one.safetensors")
    assert all(torch.equal(model.parameters[n], p) for n, p in whole.parameters.items())


def test_a_model_file_has_the_bytes_that_safetensors_would_write(tmp_path, config):
    store = CheckpointStore(str(tmp_path))
    together(2, writer(store, state(config, 5), config))
    written = Path(store.folder(5), "model.safetensors").read_bytes()
    expected = Model(config, state(config, 5).average, 5).to_bytes()
    assert read_metadata(written) == read_metadata(expected)
    assert len(written) == len(expected)
    header = 8 + int.from_bytes(written[:8], "little")
    assert written[header:] == expected[header:]


def test_theta_of_another_shape_is_refused_with_a_sentence(tmp_path, config):
    store = CheckpointStore(str(tmp_path))
    store.save(draft_of(state(config, 5), config))
    partitions = partitions_of(state(config, 5), 0, 1, 1)
    odd = replace(partitions.theta, shapes=partitions.theta.shapes | {"network.out.bias": (7,)})
    with pytest.raises(
        UserError, match=r"has other parameters than .* such as network\.out\.bias; resume"
    ):
        store.latest(read=partial(state_of, partitions=partitions._replace(theta=odd)))


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
        return  # like a checkpoint that was never finished
    assert len(refused) == 1
    assert f"{store.folder(10)} cannot be used: " in refused[0]
    assert name in refused[0] or name == "commit.json"


def test_damage_that_one_worker_finds_makes_all_use_an_earlier_checkpoint(tmp_path, config):
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


def test_an_unfinished_save_is_no_checkpoint_and_the_next_one_removes_it(tmp_path, config):
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


def test_damaged_later_checkpoints_do_not_displace_whole_ones(tmp_path, config):
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


def test_files_outside_of_the_folder_in_an_index_are_refused(tmp_path, config):
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

    for place, name in ((files, "read_part"), (os, "scandir")):
        with monkeypatch.context() as patched, pytest.raises(UserError, match="access denied"):
            patched.setattr(place, name, refuse)
            store.latest()


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_over(tmp_path, config):
    store = CheckpointStore(str(tmp_path), lambda line: None)
    store.save(draft_of(state(config, 5), config))
    for shard in Path(store.folder(5)).glob("shard-*"):
        shard.write_bytes(b"")
    with pytest.raises(UserError, match="none of them can be used; move them away, or choose"):
        store.latest()


def rewrite_index(store: CheckpointStore, step: int, change) -> None:
    """Change the index of a checkpoint, and commit it again: hashes alone do not find that."""
    folder = Path(store.folder(step))
    values = json.loads((folder / "index.json").read_text())
    change(values)
    data = json.dumps(values).encode()
    (folder / "index.json").write_bytes(data)
    commit = {"step": step, "index": sha256(data)}
    (folder / "commit.json").write_text(json.dumps(commit))


def first_tensor(values: dict) -> dict:
    return next(iter(values["tensors"].values()))


CONTRADICTIONS = {
    "another step": lambda v: v["data"].update(step=7),
    "a step below 0": lambda v: v["data"].update(step=-10),
    "a file that is not listed": lambda v: v["files"].pop(first_tensor(v)["pieces"][0]["file"]),
    "a gap": lambda v: first_tensor(v)["pieces"].pop(),
    "an overlap": lambda v: first_tensor(v)["pieces"].append(first_tensor(v)["pieces"][0]),
    "more elements than bytes": lambda v: first_tensor(v).update(
        shape=[2**40], pieces=[first_tensor(v)["pieces"][0] | {"start": 0, "stop": 2**40}]
    ),
    "a slice that the file lacks": lambda v: v["tensors"].update(
        {name.replace("/", "/other."): tensor for name, tensor in v["tensors"].items()}
    ),
    "another type": lambda v: first_tensor(v).update(dtype="float16"),
    "an average of another model": lambda v: v["tensors"].pop(
        next(name for name in v["tensors"] if name.startswith("average/"))
    ),
    "a history of later steps": lambda v: v["history"].append({"step": 99.0, "loss": 1.0}),
    "a history without steps": lambda v: v["history"].append({"loss": 1.0}),
    "a window of several kinds": lambda v: v.update(window=[{"loss": 1.0}, {"seconds": 1.0}]),
}


@pytest.mark.parametrize("fault", CONTRADICTIONS)
def test_an_index_that_contradicts_itself_is_passed_over_for_the_one_before(
    tmp_path, config, fault
):
    lines: list[str] = []
    store = CheckpointStore(str(tmp_path), lines.append)
    for step in (5, 10):
        store.save(draft_of(state(config, step), config))
    rewrite_index(store, 10, CONTRADICTIONS[fault])
    latest = store.latest()
    assert latest is not None
    assert latest.step == 5
    assert "step-00000010 cannot be used" in lines[0]


def test_a_steps_folder_that_is_a_link_is_refused_and_never_passed_over(tmp_path, config):
    store = CheckpointStore(str(tmp_path / "run"))
    store.save(draft_of(state(config, 5), config))
    Path(store.folder(5)).rename(tmp_path / "elsewhere")
    Path(store.folder(5)).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="step-00000005 is a link; put the checkpoint itself"):
        store.latest()


@pytest.mark.parametrize("removed", ["commit.json", "index.json"])
def test_a_run_does_not_begin_beside_the_rest_of_a_checkpoint(tmp_path, config, removed):
    store = CheckpointStore(str(tmp_path))
    store.save(draft_of(state(config, 5), config))
    Path(store.folder(5), "commit.json").unlink()
    Path(store.folder(5), removed).unlink(missing_ok=True)
    with pytest.raises(UserError, match="step-00000005 looks like the rest of one; move it away"):
        store.latest()


def test_a_run_begins_again_whose_first_start_was_killed_as_it_saved(tmp_path, config):
    store = CheckpointStore(str(tmp_path))
    store.save(draft_of(state(config, 0), config))
    Path(store.folder(0), "commit.json").unlink()
    assert store.latest() is None


def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path, config):
    store = CheckpointStore(str(tmp_path))
    store.save(draft_of(state(config, 5), config))
    index = Path(store.folder(5), "index.json")
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(UserError, match=r"index.json is a pipe; give a file\."):
        store.latest()


def test_nothing_is_written_once_the_store_may_not(tmp_path, config):
    def refuse() -> None:
        raise UserError("another process has it.")

    CheckpointStore(str(tmp_path)).save(draft_of(state(config, 5), config))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="another process has it"):
        CheckpointStore(str(tmp_path), may_write=refuse).save(draft_of(state(config, 10), config))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
