"""Whatever the store does: the same episodes, in the same order, to the same pixel."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from fault_proxy import LASTING, PASSING, every, first
from local_training import train
from object_storage import upload
from photographs import photos, sr_config  # noqa: F401

from metatrain.base.errors import UserError
from metatrain.config import Config
from metatrain.data import loader
from metatrain.data.episodes import Episode
from metatrain.data.loader import load_episodes
from metatrain.data.packed import writer as shards
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import DatasetWriter
from metatrain.data.packing.pack import pack
from metatrain.data.tasks.class_sampler import ClassPlan, ClassSampler
from metatrain.data.tasks.classes import Classes
from metatrain.storage import files, retry
from metatrain.storage.disk_cache import DiskCache
from metatrain.training.run_data import training_sampler

STEPS = 12
SHARD = "data-00000.parquet"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(retry, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(files, "STALL_SECONDS", 1.0)


@pytest.fixture
def url(s3, packed) -> str:
    return upload(packed, f"{s3}/set")


def source_at(url: str, config: Config, cache: DiskCache | None = None) -> Classes:
    return Classes(config.data.tasks, config.data, EpisodeStore(url, cache))


def steps(source: Classes, config: Config, start=0, rank=0, world=1, count=STEPS):
    sampler = training_sampler(source, config)
    episodes = load_episodes(source, sampler, start=start, rank=rank, world=world)
    return list(islice(episodes, count))


def with_data(config: Config, **values) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update=values)})


def same(one: list[Episode], other: list[Episode]) -> bool:
    return len(one) == len(other) and all(
        a.task == b.task
        and a.seed == b.seed
        and torch.equal(a.support.target, b.support.target)
        and torch.equal(a.query.target, b.query.target)
        for a, b in zip(one, other, strict=True)
    )


def flat(steps: list[list[Episode]]) -> list[Episode]:
    return [episode for step in steps for episode in step]


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_changes_no_episode(proxy, url, packed, config, fault):
    proxy.fault = every(5, (fault,))
    source = source_at(url, config)
    streamed = flat(steps(source, config))
    assert same(streamed, flat(steps(source_at(packed, config), config)))
    met = [asked for asked in proxy.reads() if asked.fault == fault]
    assert met
    assert source.traffic.total()["retries"] >= len(met) - loader.READERS


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("prefetch_bytes", [0, 10_000, 10**8])
def test_faults_cache_prefetch_and_world_size_change_no_episode(
    proxy, url, packed, config, tmp_path, world, prefetch_bytes
):
    config = config.model_copy(update={"meta": config.meta.model_copy(update={"batch": 3})})
    expected = steps(source_at(packed, config), config)
    config = with_data(config, prefetch_bytes=prefetch_bytes)
    # No stalls, for they would make the suite slow.
    proxy.fault = every(4, ("slow down", "error", "reset", "truncated", "flipped"))
    for rank in range(world):
        source = source_at(url, config, DiskCache(str(tmp_path / "cache"), 200_000))
        streamed = steps(source, config, rank=rank, world=world)
        assert same(flat(streamed), flat([step[rank::world] for step in expected]))
    assert any(asked.fault for asked in proxy.reads())


def test_a_restart_in_the_middle_gives_the_next_episode(proxy, url, config):
    whole = steps(source_at(url, config), config)
    proxy.fault = every(3, ("slow down", "flipped"))
    for start in (1, 5, 11):
        rest = steps(source_at(url, config), config, start=start, count=STEPS - start)
        assert same(flat(rest), flat(whole[start:]))


def test_a_burst_of_slow_downs_is_sat_out(proxy, url, packed, config):
    proxy.fault = first(10, "slow down")
    assert same(
        flat(steps(source_at(url, config), config)), flat(steps(source_at(packed, config), config))
    )


def test_a_bit_that_stays_flipped_stops_the_run_by_object_and_range(proxy, url, config):
    proxy.fault = lambda *_: "flipped"
    with pytest.raises(UserError, match=rf"{url}/{SHARD} is damaged: bytes \d+ to \d+ are not"):
        steps(source_at(url, config), config)


@pytest.mark.parametrize("fault", LASTING)
def test_credentials_that_expire_stop_the_run_by_object_and_range_at_once(
    proxy, url, config, fault, monkeypatch
):
    monkeypatch.setattr(files, "STALL_SECONDS", 15.0)  # a busy machine is no fault
    proxy.fault = lambda place, _: fault if place > 20 else None
    source = source_at(url, config)
    started = time.monotonic()
    sentence = rf"cannot reach bytes \d+ to \d+ of {url}/{SHARD}: .*; check .*your credentials"
    with pytest.raises(UserError, match=sentence):
        steps(source, config, count=200)
    assert time.monotonic() - started < 10
    assert source.traffic.total()["retries"] == 0


@pytest.mark.parametrize("fault", [fault for fault in PASSING if fault != "stall"])
def test_a_fault_that_does_not_pass_ends_in_a_sentence(proxy, url, fault):
    proxy.fault = lambda *_: fault
    store = EpisodeStore(url)
    with pytest.raises(UserError, match=rf"{SHARD}.*\.$") as told:
        store.read(store.tasks("train")[0])
    # Addresses are signed, and a log is no place for a signature.
    assert "X-Amz" not in str(told.value)
    # Of this data set: what an earlier test's readers had under way may still be coming in.
    own = [asked for asked in proxy.reads() if asked.path in f"{url.removeprefix('s3:/')}/{SHARD}"]
    assert len(own) == retry.ATTEMPTS


# What it costs


def test_an_episode_costs_one_ranged_read_and_nothing_else(proxy, url, config):
    source = source_at(url, config)
    opening = len(proxy.asked)
    sampler = training_sampler(source, config)
    for step in range(STEPS):
        source.read(sampler.plan(step, 0))
    asked = proxy.asked[opening:]
    assert len(asked) == STEPS
    assert all(request.range and request.path.endswith(SHARD) for request in asked)
    traffic = source.traffic.total()
    assert (traffic["requests"], traffic["retries"]) == (STEPS, 0)
    assert traffic["bytes"] == sum(_length(request.range) for request in asked)


def _length(byte_range: str) -> int:
    start, end = byte_range.removeprefix("bytes=").split("-")
    return int(end) - int(start) + 1


def test_row_groups_that_lie_close_are_one_read(proxy, s3, images, monkeypatch):
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 1000)
    pack(images, f"{s3}/pieces")
    store = EpisodeStore(f"{s3}/pieces")
    task = store.tasks("train")[0]
    assert sum(group.task == task.name for group in store.row_groups) > 2
    before = len(proxy.reads())
    everything = store.read(task)
    assert len(proxy.reads()) == before + 1
    # And of a task in pieces only those pieces are read that hold what is asked for.
    first_bytes = store.traffic.take()["bytes"]
    assert store.read(task, [5, 0]) == [everything[5], everything[0]]
    assert store.read(task, [0]) == [everything[0]]
    assert store.traffic.take()["bytes"] < 2 * first_bytes


def test_a_row_group_wanted_by_many_at_once_is_fetched_once(proxy, url):
    store = EpisodeStore(url)
    task = store.tasks("train")[0]
    proxy.latency = 0.5
    before, together = len(proxy.reads()), threading.Barrier(8)

    def read(_: int) -> list[bytes]:
        together.wait()
        return store.read(task)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read, range(8)))
    assert len(proxy.reads()) == before + 1
    assert all(result == results[0] for result in results)


def test_what_was_read_ahead_comes_without_waiting_for_the_storage(proxy, url, config, monkeypatch):
    source, done = source_at(url, config), []
    plain = source.read
    monkeypatch.setattr(source, "read", lambda plan: (plain(plan), done.append(plan))[0])
    episodes = load_episodes(source, training_sampler(source, config), start=0)
    next(episodes)
    while len(done) < config.meta.batch + loader._AHEAD:
        time.sleep(0.01)  # a step of training
    proxy.gate.clear()
    # Not one more answer: who asked for these only now would give up.
    for _ in range(loader._AHEAD // config.meta.batch):
        next(episodes)
    proxy.gate.set()


def test_no_more_is_read_ahead_than_the_budget_allows(url, config, monkeypatch):
    config = with_data(config, prefetch_bytes=60_000)
    source = source_at(url, config)
    sampler = training_sampler(source, config)
    started = []
    plain = source.read
    monkeypatch.setattr(source, "read", lambda plan: started.append(plan) or plain(plan))
    episodes = load_episodes(source, sampler, start=0)
    next(episodes)
    time.sleep(1)
    ahead = len(started) - config.meta.batch
    coming = [source.bytes_of(plan(i, sampler)) for i in range(ahead + 1)]
    assert ahead > 2
    assert sum(coming[:-1]) <= 60_000 < sum(coming)


def plan(episode: int, sampler: ClassSampler) -> ClassPlan:
    """Of the episode so many after the first step's."""
    step, slot = divmod(episode + sampler.meta_batch, sampler.meta_batch)
    return sampler.plan(step, slot)


# What it must never do


def test_a_forked_child_opens_its_own_connections(url):
    store = EpisodeStore(url)
    tasks = store.tasks("train")
    expected = store.read(tasks[0])
    child = os.fork()
    if child == 0:  # nothing of pytest may run in here
        try:
            os._exit(0 if store.read(tasks[0]) == expected else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 30
    while (waited := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    if waited == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert waited == (child, 0)
    assert store.read(tasks[1])


BUDGET, TIMES, IMAGE = 6_000_000, 20, 100_000
# What reading takes beside its budget: copies of the row groups that are being decoded, the
# allocator's slack, and connections.
CONSTANT = 40_000_000

STREAMED = """
import sys
from itertools import islice
import psutil
from metatrain.config import load_config
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.training.run_data import training_sampler

process = psutil.Process()
config = load_config(None, sys.argv[1:])
source = open_tasks(config.data)
sampler = training_sampler(source, config)
one = open_tasks(config.data.model_copy(update={"prefetch_bytes": 1}))
episodes = load_episodes(one, sampler, start=0)
next(episodes), next(episodes)
episodes.close()
before = most = process.memory_info().rss
for _ in islice(load_episodes(source, sampler, start=0), sampler.epoch // 2):
    most = max(most, process.memory_info().rss)
print(most - before, source.traffic.total()["bytes"])
"""


def write_noise(url: str, tasks: int, images: int) -> None:
    """A data set of raw pixels that takes no time to make."""
    writer = DatasetWriter(url, ())
    writer.begin()
    draws, side = np.random.default_rng(0), 182
    for task in range(tasks):
        row = {"task": f"{task:03d}", "split": "train", "width": side, "height": side}
        for index in range(images):
            pixels = b"P6 %d %d 255\n" % (side, side) + draws.bytes(3 * side * side)
            writer.add({**row, "index": index, "image": pixels})
    writer.commit({})


@pytest.mark.long
def test_memory_stays_within_the_budget_and_a_constant(s3, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 8_000_000)
    monkeypatch.setattr(files, "STALL_SECONDS", 15.0)
    images = 20
    tasks = BUDGET * TIMES // (images * IMAGE)
    write_noise(f"{s3}/large", tasks, images)
    overrides = ["data.image_size=32", f"data.prefetch_bytes={BUDGET}", "data.channels=3"]
    command = [sys.executable, "-c", STREAMED, f"data.path={s3}/large", *overrides]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr
    grown, streamed = map(int, result.stdout.split())
    assert streamed > 0.9 * TIMES * BUDGET
    assert grown < BUDGET + CONSTANT


def test_super_resolution_trains_the_same_from_s3(photos, tmp_path, s3):  # noqa: F811
    local = train(sr_config(photos, tmp_path / "local"))
    streamed = train(sr_config(upload(photos, f"{s3}/photographs"), tmp_path / "streamed"))
    assert all(torch.equal(streamed.parameters[n], p) for n, p in local.parameters.items())
