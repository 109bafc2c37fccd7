import pytest
import torch
from fsspec.implementations.local import LocalFileSystem

from metatrain.build import build_generator
from metatrain.checkpoint import COMMIT, CheckpointStore
from metatrain.config import CheckpointConfig
from metatrain.errors import UserError
from metatrain.model import load_model
from metatrain.trainer import TrainState


def state(config, step):
    parameters = {n: p.detach() + step for n, p in build_generator(config).named_parameters()}
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
        store.save(state(config, step), config)
    assert_same(CheckpointStore(run).latest(), state(config, 15))
    assert store.steps() == [10, 15]


def test_a_checkpoint_holds_the_average_as_a_model_of_its_own(run, config):
    store = CheckpointStore(run)
    store.save(state(config, 5), config)
    model = load_model(store.folder(5))
    assert all(torch.equal(model.parameters[n], p) for n, p in state(config, 5).average.items())


@pytest.mark.parametrize("name", ["training.safetensors", "history.json", COMMIT])
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_of_a_damaged_checkpoint_nothing_is_used_but_of_the_one_before_all(
    tmp_path, config, name, damage
):
    store = CheckpointStore(str(tmp_path))
    for step in (5, 10):
        store.save(state(config, step), config)
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


def test_an_unfinished_save_is_no_checkpoint(tmp_path, config):
    store = CheckpointStore(str(tmp_path))
    store.save(state(config, 5), config)
    torn = tmp_path / "checkpoints" / "step-00000010"
    torn.mkdir()
    (torn / "training.safetensors.partial").write_bytes(b"half")
    assert store.latest().step == 5
    assert store.latest() is not None


def test_as_many_checkpoints_are_kept_as_configured(tmp_path, config):
    store = CheckpointStore(str(tmp_path))
    one = config.model_copy(update={"checkpoint": CheckpointConfig(keep=1)})
    for step in (5, 10):
        store.save(state(config, step), one)
    assert store.steps() == [10]


def test_a_damaged_future_does_not_crowd_out_the_checkpoints_that_are_whole(tmp_path, config):
    store = CheckpointStore(str(tmp_path))
    one = config.model_copy(update={"checkpoint": CheckpointConfig(keep=1)})
    store.save(state(config, 400), one)
    (tmp_path / "checkpoints" / "step-00000400" / "history.json").write_bytes(b"[")
    store.save(state(config, 40), one)
    assert store.steps() == [40]
    assert store.latest().step == 40


def test_any_character_may_stand_in_a_run_s_path(tmp_path, config):
    store = CheckpointStore(f"{tmp_path}/a[b]*?/run")
    store.save(state(config, 5), config)
    assert store.latest().step == 5


def test_storage_that_fails_is_not_mistaken_for_a_run_without_checkpoints(
    tmp_path, config, monkeypatch
):
    store = CheckpointStore(str(tmp_path))
    store.save(state(config, 5), config)

    def refuse(*_, **__):
        raise PermissionError("access denied")

    monkeypatch.setattr(LocalFileSystem, "cat_file", refuse)
    with pytest.raises(UserError, match="access denied"):
        store.latest()
