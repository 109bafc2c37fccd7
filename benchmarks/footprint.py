"""Peak memory of every worker of a run, beside the plan's: `python -m benchmarks.footprint CONFIG`.

A fresh process for each worker, over gloo, does what a worker does: the engine, the learner and the
trainer of the configuration, on random images. Malloc is told to hand every freed tensor back to
the system, and a small run first loads and compiles code; what counts is how far the peak of the
resident set then rises, which is that of living tensors.
"""

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.memory import give_memory_back, peak_reset, resident
from metatrain.build import build_generator, build_learner
from metatrain.config import Config, load_config
from metatrain.episodes import Episode, slots_of
from metatrain.trainer import Observer, Record, Trainer, first_state

# The optimiser has its state after the first step, and learners what they remember.
STEPS = 3
_SMALL = ["data.image_size=8", "generator.width=8"]


def measured(config: str, overrides: Sequence[str] = ()) -> list[int]:
    """Bytes that each worker of a configuration needs at most beyond code."""
    world = load_config(config, overrides).cluster.workers
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.footprint", config, *overrides]
        ranks = [{"LOCAL_RANK": str(rank), "STORE": f"{folder}/store"} for rank in range(world)]
        environment = os.environ | give_memory_back() | {"DS_ACCELERATOR": "cpu"}
        workers = [
            subprocess.Popen(command, env=environment | rank, stdout=subprocess.PIPE, text=True)
            for rank in ranks
        ]
        said = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError("a worker failed; what it said is above")
    return [int(text.splitlines()[-1]) for text in said]


class _Enough(Exception):
    """The run is over."""


class _Stop(Observer):
    def on_step(self, step: int, record: Record) -> None:
        if step == STEPS:
            raise _Enough


def _rise(path: str, overrides: Sequence[str]) -> int:
    """Bytes that the peak rises by in a run."""
    _run(load_config(path, [*overrides, *_SMALL]))
    gc.collect()
    peak_reset()
    before = resident("VmRSS")
    _run(load_config(path, overrides))
    return 1024 * (resident("VmHWM") - before)


def _run(config: Config) -> None:
    from cluster.engine import ZeroEngine

    engine = ZeroEngine(build_generator(config), config)
    learner = build_learner(config, build_generator(config))
    state = first_state(build_generator(config))
    episodes = _episodes(config, engine.rank, engine.world)
    trainer = Trainer(config, engine, learner, episodes, state, [_Stop()])
    del state
    try:
        trainer.run()
    except _Enough:
        return


def _episodes(config: Config, rank: int, world: int) -> Iterator[list[Episode]]:
    data, stream = config.data, torch.Generator().manual_seed(rank)
    shape = (data.shots + data.queries, data.channels, data.image_size, data.image_size)
    while True:
        images = [torch.rand(shape, generator=stream) for _ in slots_of(rank, world, config.meta.batch)]
        yield [Episode(f"{i}", x[: data.shots], x[data.shots :], i) for i, x in enumerate(images)]


def _worker(path: str, overrides: Sequence[str]) -> None:
    torch.set_num_threads(1)
    rank, store = int(os.environ["LOCAL_RANK"]), os.environ["STORE"]
    world = load_config(path, overrides).cluster.workers
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world
    )
    print(_rise(path, overrides), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _worker(sys.argv[1], sys.argv[2:])
