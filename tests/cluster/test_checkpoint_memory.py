"""Memory of saving and resuming, in real processes with a theta of 33 MB."""

import gc
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from workers import run_workers

from benchmarks.gradients.memory import give_memory_back, peak_reset, resident
from cluster.engine import zero
from cluster.engine.peers import ProcessGroupPeers
from metatrain.config import load_config
from metatrain.model.build import build_theta
from metatrain.storage import files
from metatrain.training.checkpoint import CheckpointStore, draft_of, state_of, writing
from metatrain.training.state import TrainState

WORLD = 3
WAYS = ("1", "gathered", "sharded")
# Bytes that are written, read back or gathered at once; many megabytes otherwise.
AT_ONCE = 1_000_000
# A few times those, and memory that malloc keeps.
SLACK = 5_000_000


def configuration(way, width=256):
    stage = ["cluster.zero_stage=1"]
    if way != "1":
        stage = ["cluster.zero_stage=3", f"cluster.inner_loop={way}"]
    return load_config(
        None,
        [
            "data.image_size=16", "generator.name=dit", f"generator.width={width}",
            "generator.depth=6", "generator.heads=4", "meta.optimizer=adam", *stage,
        ],
    )  # fmt: skip


def bytes_of(config):
    with torch.device("meta"):
        sizes = [p.nbytes for p in build_theta(config).named().values()]
    return sum(sizes), max(sizes)


class Peak:
    """Peak memory of a block, above the memory before it and above the memory after it."""

    def __enter__(self):
        gc.collect()
        peak_reset()
        self._before = resident("VmRSS")
        return self

    def __exit__(self, *_):
        gc.collect()
        self.over_before = 1024 * (resident("VmHWM") - self._before)
        self.over_after = 1024 * (resident("VmHWM") - resident("VmRSS"))


def work(rank, folder):
    from cluster.engine.build import build_engine_and_learner

    writing._FILE_BYTES = files._CHUNK_BYTES = AT_ONCE
    zero._GATHERED_AT_ONCE = AT_ONCE // 4
    peers = ProcessGroupPeers()

    def measured(config, store):
        with Peak() as begin:
            engine, _ = build_engine_and_learner(config, torch.device("cpu"))
            engine.begin()
        with Peak() as step:
            gradient = {n: torch.full_like(p, 0.1) for n, p in engine.parameters().items()}
            engine.apply(gradient, 0.1)
            del gradient
        theta, moments = engine.local(), engine.optimizer_state()
        state = TrainState(step=1, parameters=theta, average=theta, optimizer=moments)
        with Peak() as save:
            store.save(draft_of(state, config, engine.partitions), peers)
        with Peak() as resume:
            engine.load(store.latest(peers, partial(state_of, partitions=engine.partitions)))
        peaks = (begin.over_after, step.over_before, save.over_before, resume.over_before)
        return torch.tensor(peaks)

    measured(configuration("sharded", width=64), CheckpointStore(f"{folder}/first"))  # loads code
    stores = {way: CheckpointStore(f"{folder}/{way}") for way in WAYS}
    peaks = {way: measured(configuration(way), store) for way, store in stores.items()}
    save_file(peaks, f"{folder}/rank-{rank}")


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """The peaks in bytes of the worker that needs the most, by kind of sharding."""
    folder = tmp_path_factory.mktemp("memory")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in give_memory_back().items():
            patched.setenv(name, value)
        run_workers(WORLD, folder, work, str(folder), start="spawn")
    everyones = [load_file(folder / f"rank-{rank}") for rank in range(WORLD)]
    return {way: torch.stack([of[way] for of in everyones]).amax(0).tolist() for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_a_worker_saves_and_resumes_with_no_more_than_its_fragments_and_one_tensor(peaks, way):
    theta, largest = bytes_of(configuration(way))
    state = 4 * theta  # with the average and two moments
    allowed = state / WORLD + largest + SLACK
    assert allowed < state / 2
    begin, _, save, resume = peaks[way]
    assert save < allowed
    # DeepSpeed creates the optimiser's state by a step: at stage 3, on shards.
    step = peaks["1" if way == "1" else "sharded"][1]
    assert resume < step + allowed
    if way == "sharded":
        assert begin < theta / WORLD + largest + SLACK
