"""The cache hands out only what was put in, within its budget, whoever dies while writing."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.data.packed.store import EpisodeStore
from metatrain.storage.disk_cache import DiskCache
from metatrain.training.run_data import training_sampler

ROOT = Path(__file__).parents[2]
SIZE, BUDGET = 10_000, 100_000


def block(seed: int) -> tuple[str, bytes]:
    data = np.random.default_rng(seed).bytes(SIZE)
    return hashlib.sha256(data).hexdigest(), data


def blocks_in(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if len(file.name) == 64]


def used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.name != "lock")


def sound(folder: Path) -> bool:
    return all(
        hashlib.sha256(file.read_bytes()).hexdigest() == file.name for file in blocks_in(folder)
    )


@pytest.fixture
def cache(tmp_path) -> DiskCache:
    return DiskCache(str(tmp_path), BUDGET)


def test_what_was_put_in_comes_out_also_in_another_process_of_the_node(cache, tmp_path):
    name, data = block(0)
    assert cache.get(name) is None
    cache.put(name, data)
    assert cache.get(name) == data
    assert DiskCache(str(tmp_path), BUDGET).get(name) == data


def test_what_was_not_read_for_longest_goes_first(cache, tmp_path):
    for seed in range(10):
        cache.put(*block(seed))
        os.utime(tmp_path / block(seed)[0], (seed, seed))
    assert cache.get(block(0)[0]), "read, and so the last to go"
    cache.put(*block(10))
    kept = {seed for seed in range(11) if cache.get(block(seed)[0])}
    assert kept == {0, 2, 3, 4, 5, 6, 7, 8, 9, 10}
    assert used(tmp_path) <= BUDGET


def test_the_budget_holds_after_every_write(cache, tmp_path):
    for seed in range(40):
        cache.put(*block(seed))
        assert used(tmp_path) <= BUDGET
    assert len(blocks_in(tmp_path)) >= 8


def test_a_damaged_file_is_never_handed_out_and_makes_room_for_a_sound_one(cache, tmp_path):
    name, data = block(0)
    cache.put(name, data)
    (tmp_path / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert cache.get(name) is None
    cache.put(name, data)
    assert cache.get(name) == data


@pytest.mark.parametrize("total", [b"", b"rubbish", b"%032d" % 10**12])
def test_a_lost_or_wrong_count_is_made_good(cache, tmp_path, total):
    for seed in range(9):
        cache.put(*block(seed))
    (tmp_path / "lock").write_bytes(total)
    for seed in range(9, 20):
        cache.put(*block(seed))
        assert used(tmp_path) <= BUDGET
    assert len(blocks_in(tmp_path)) >= 8


WRITER = """
import hashlib, sys
import numpy as np
from metatrain.storage.disk_cache import DiskCache
cache, start = DiskCache(sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
print("ready", flush=True)
for seed in range(start, start + int(sys.argv[4])):
    data = np.random.default_rng(seed % 30).bytes(10_000)
    name = hashlib.sha256(data).hexdigest()
    cache.put(name, data)
    cached = cache.get(name)
    assert cached in (None, data)
"""


def writer(folder: Path, start: int, count: int) -> subprocess.Popen:
    arguments = [str(folder), str(BUDGET), str(start), str(count)]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.long
def test_concurrent_writers_keep_it_sound_and_within_budget(cache, tmp_path):
    writers = [writer(tmp_path, start, 400) for start in (0, 10, 20)]
    most = 0
    while any(process.poll() is None for process in writers):
        with cache._locked():  # or the listing would mix several moments
            most = max(most, used(tmp_path))
    assert [process.wait() for process in writers] == [0, 0, 0]
    assert 0 < most <= BUDGET
    assert sound(tmp_path)


@pytest.mark.long
def test_a_kill_at_any_moment_leaves_it_sound_and_usable(tmp_path):
    random = np.random.default_rng(0)
    for round in range(8):
        process = writer(tmp_path, 7 * round, 10**6)
        time.sleep(random.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert sound(tmp_path)
        # A file half written stays behind at most, until room is needed.
        assert used(tmp_path) <= BUDGET + SIZE
    cache = DiskCache(str(tmp_path), BUDGET)
    for seed in range(100, 120):
        cache.put(*block(seed))
        assert cache.get(block(seed)[0]) == block(seed)[1]
    assert used(tmp_path) <= BUDGET
    assert not list(tmp_path.glob("*.partial"))


def test_a_disk_that_is_full_costs_the_cache_and_not_the_run(cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cache.put(*block(0))
    assert cache.get(block(0)[0]) is None


def test_a_budget_below_one_row_group_is_refused(packed, tmp_path):
    with pytest.raises(UserError, match=r"data\.cache_bytes=1,000 is less than the largest row gr"):
        EpisodeStore(packed, DiskCache(str(tmp_path), 1000))


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"the cache .*file cannot be written \(.*\); set data"):
        DiskCache(str(tmp_path / "file"), BUDGET)


def test_a_second_pass_costs_no_request(packed, tmp_path, overrides):
    config = load_config(None, [*overrides, f"data.cache_dir={tmp_path}/cache"])

    def streamed() -> dict[str, int]:
        source = open_tasks(config.data)
        episodes = load_episodes(source, training_sampler(source, config), start=0)
        for _ in range(16):
            next(episodes)
        episodes.close()
        return source.traffic.total()

    assert streamed()["requests"] >= 16
    again = streamed()
    assert again["requests"] == again["bytes"] == 0
    assert again["cache_hits"] >= 32
