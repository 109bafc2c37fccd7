"""Training on a storage that fails, and processes that are killed while they write."""

import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from local_training import train
from safetensors.torch import load_file

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.storage import retry
from metatrain.training.checkpoint import (
    ALONE,
    BackgroundWriter,
    CheckpointStore,
    draft_of,
    state_of,
)
from metatrain.training.initial_weights import initial_weights
from metatrain.training.observer import Observer
from metatrain.training.state import first_state


class Saver(Observer):
    """Saver as in training, with a list of its reports and one of the saved steps."""

    def __init__(self, config):
        self.config, self.reports, self.safe = config, [], []
        self.store = CheckpointStore(config.run.url, self.reports.append)
        failures = config.checkpoint.max_failures
        self.writer = BackgroundWriter(
            self.store, ALONE, failures, self.reports.append, self.safe.append
        )

    def on_checkpoint(self, state):
        self.writer.save(draft_of(state, self.config))

    def on_end(self):
        self.writer.finish()


class At(Observer):
    """Action at a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step(self, step, record):
        if step == self.step:
            self.action()


def configured(overrides, *more):
    return load_config(None, [*overrides, "checkpoint.every=2", "meta.steps=12", *more])


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def files_under(folder):
    return sorted(str(file) for file in Path(folder).rglob("*") if file.is_file())


def test_a_run_survives_a_storage_that_is_down_for_a_while(overrides, proxy, s3, monkeypatch):
    monkeypatch.setattr(retry, "_FIRST_WAIT", 0.01)
    config = configured(overrides, f"run.dir={s3}")
    saver = Saver(config)

    def go_down():
        saver.writer.finish()
        proxy.down = True

    def come_back():
        wait_until(lambda: len(saver.reports) == 2)
        proxy.down = False

    last = train(config, [saver, At(3, go_down), At(7, come_back)])
    assert saver.safe == [0, 2, 8, 10, 12]
    assert [line.partition(": ")[0] for line in saver.reports] == [
        "The checkpoint of step 4 cannot be written",
        "The checkpoint of step 6 cannot be written",
    ]
    assert "SlowDown" in saver.reports[0]
    state = saver.store.latest()
    assert state.step == 12
    assert_same(state.parameters, last.parameters)
    assert_same(last.parameters, train(config, []).parameters)


def test_after_the_stated_number_of_failures_in_a_row_a_run_gives_up_in_a_sentence(
    overrides, proxy, s3, monkeypatch
):
    monkeypatch.setattr(retry, "_FIRST_WAIT", 0.01)
    config = configured(overrides, f"run.dir={s3}", "checkpoint.max_failures=2")
    saver, steps = Saver(config), []

    def go_down():
        saver.writer.finish()
        proxy.down = True

    class Steps(Observer):
        def on_step(self, step, record):
            steps.append(step)

    with pytest.raises(UserError) as error:
        train(config, [saver, At(3, go_down), Steps()])
    assert str(error.value).startswith(
        "3 checkpoints in a row could not be written, more than checkpoint.max_failures=2: "
    )
    assert steps[-1] == 10  # 4, 6 and 8 have failed
    proxy.down = False
    assert saver.store.latest().step == 2


def test_the_last_checkpoint_is_tried_again_until_it_is_written(overrides, tmp_path):
    config = configured(overrides)
    saver = Saver(config)
    blocker = Path(saver.store.folder(12))

    def block():
        saver.writer.finish()
        blocker.write_text("a file where a folder should be")

    class Unblocking(list):
        def append(self, line):
            super().append(line)
            blocker.unlink(missing_ok=True)  # it may have been removed by the store

    messages = Unblocking()
    saver.writer._report = messages.append
    train(config, [saver, At(11, block)])
    assert len(messages) == 1
    assert saver.store.latest().step == 12


def test_training_continues_while_the_state_of_a_step_is_written(overrides, proxy, s3):
    config = configured(overrides, f"run.dir={s3}")
    saver, held = Saver(config), []

    def release():
        held.append(list(saver.safe))
        proxy.gate.set()

    def hold():
        saver.writer.finish()
        proxy.gate.clear()

    # The writing of step 10 is held up until step 11 has changed theta.
    train(config, [saver, At(9, hold), At(11, release)])
    assert held == [[0, 2, 4, 6, 8]]
    assert saver.safe == [0, 2, 4, 6, 8, 10, 12]
    at_10 = train(config, [], told_to_leave=after(10))
    assert at_10.step == 10
    assert_same(state_of(saver.store.open(10)).parameters, at_10.parameters)


def after(steps):
    """Return a function that tells a worker to leave at its outer step `steps`."""
    asked = count(1)
    return lambda: next(asked) >= steps


def wait_until(true):
    while not true():
        time.sleep(0.01)


def test_a_worker_told_to_leave_saves_at_that_step_and_the_run_ends_as_if_it_had_not(overrides):
    config = configured(overrides, "checkpoint.every=10", "meta.steps=450")
    whole = train(config, [], told_to_leave=after(20))
    saver = Saver(config)
    left = train(config, [saver], told_to_leave=after(13))
    assert (left.step, saver.safe) == (13, [0, 10, 13])
    assert len(left.window) == 1  # of the two steps per record of the history
    state = saver.store.latest()
    resumed = train(config, [], state, told_to_leave=after(7))
    assert_same(resumed.parameters, whole.parameters)
    assert_same(resumed.average, whole.average)
    steps = [record["step"] for record in whole.history]
    assert [record["step"] for record in resumed.history] == steps
    losses = [record["loss"] for record in whole.history]
    assert [record["loss"] for record in resumed.history] == losses


@pytest.fixture
def small_disk(tmp_path):
    """Mount a small file system; skip the test where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_files():
    """Limit the size of files, as an exhausted quota does."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_a_full_disk_is_a_sentence_that_leaves_the_earlier_checkpoint_whole_and_nothing_half(
    config, small_disk
):
    messages = []
    store = CheckpointStore(str(small_disk / "run"), messages.append)
    state = first_state(initial_weights(config))
    store.save(draft_of(replace(state, step=5), config))
    whole = files_under(small_disk)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(UserError) as error:
        store.save(draft_of(replace(state, step=10), config))
    assert f"there is no room for {store.folder(10)}" in str(error.value)
    ballast.unlink()
    assert files_under(small_disk) == whole
    assert not Path(store.folder(10)).exists()
    assert store.latest().step == 5
    store.save(draft_of(replace(state, step=10), config))
    assert store.latest().step == 10


def test_an_exhausted_quota_is_reported_like_a_full_disk(config, tmp_path):
    store = CheckpointStore(str(tmp_path / "run"))
    draft = draft_of(replace(first_state(initial_weights(config)), step=5), config)
    no_room = pytest.raises(UserError, match=f"there is no room for {store.folder(5)}")
    with no_room, small_files():
        store.save(draft)
    assert files_under(tmp_path) == []


WRITER = """
import sys
from datetime import timedelta
import torch
import torch.distributed as dist
from cluster.engine.peers import ProcessGroupPeers
from metatrain.training.checkpoint import CheckpointStore, Draft
from metatrain.config import load_config
from metatrain.training.fragments import fragment_of, share_of

run, rank, meeting = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", f"file://{meeting}", timedelta(seconds=300), 2, rank)
peers, config = ProcessGroupPeers(), load_config()
store = CheckpointStore(run)
step = store.latest(peers, lambda checkpoint: checkpoint.verified().step) or 0
while True:
    step += 1
    names = [f"{part}/{n}" for part in ("average", "parameters") for n in range(20)]
    whole = [fragment_of(name, torch.full((100, 50), float(step))) for name in names]
    own = share_of(whole, rank, 2)
    store.save(Draft(step=step, config=config, history=[], window=[], fragments=own), peers)
    print(step, flush=True)
"""


@contextmanager
def start_writers(run, meeting):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, run, rank, meeting],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        yield writers
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_a_kill_in_the_middle_of_a_checkpoint_leaves_the_newest_that_was_complete(
    tmp_path,
):
    """Two processes write checkpoints all the time, and one of them is killed at any moment."""
    store, safe = CheckpointStore(str(tmp_path)), 0
    for rank, wait in ((1, 0.0), (0, 0.013)):
        with start_writers(str(tmp_path), str(tmp_path / f"meeting-{rank}")) as writers:
            for _ in range(4):
                safe = int(writers[0].stdout.readline())
            time.sleep(wait)
            writers[rank].kill()
            safe = max([safe, *map(int, writers[0].stdout)])
        result = store.latest(read=lambda checkpoint: checkpoint)
        assert result.step in (safe, safe + 1)  # complete, but not reported any more
        tensors = result.verified().tensors("parameters")
        model = load_file(f"{result.folder}/model.safetensors")
        assert len(tensors) == len(model) == 20
        assert all((t == result.step).all() for t in (*tensors.values(), *model.values()))
