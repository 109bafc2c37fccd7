"""Cost of fault tolerance: how long a checkpoint and a kill stall training.

    python -m benchmarks.cluster.recovery --out recovery.json

Both with the demo's configuration (configs/demo.yaml), the first in this process, the second with
the training command, of which one worker is killed. Takes 3 to 5 minutes on 2 cores.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import torch
import torch.distributed as dist
from typing_extensions import override

from metatrain.config import Config, load_config
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.data.packing.pack import pack
from metatrain.training.checkpoint import ALONE, BackgroundWriter, CheckpointStore, draft_of
from metatrain.training.observer import Observer
from metatrain.training.partition import StateParts
from metatrain.training.run_data import training_sampler
from metatrain.training.state import Record, TrainState
from metatrain.training.trainer import Trainer

_DEMO = "configs/demo.yaml"


class Stall(NamedTuple):
    """Median seconds of checkpoints and of steps with and without one being written.

    Attributes:
        step: a step on its own.
        step_beside: a step while a checkpoint is written.
        checkpoint: the wait for a checkpoint to be copied.
        written: the writing of a checkpoint.
    """

    step: float
    step_beside: float
    checkpoint: float
    written: float

    def share(self, every: int) -> float:
        """Return the share of training time that a checkpoint every so many steps costs."""
        slower = max(0.0, self.step_beside - self.step) * self.written / self.step_beside
        return (self.checkpoint + slower) / (every * self.step)


class _TimedSaver(Observer):
    """Saving as on a cluster, and the times of it."""

    def __init__(self, config: Config, partitions: StateParts) -> None:
        self._config, self._partitions = config, partitions
        self._store = CheckpointStore(config.run.url)
        self._writer = BackgroundWriter(self._store, ALONE, 0, print, self._on_saved)
        self.steps: list[tuple[float, float]] = []
        self.stalls: list[float] = []
        self.writes: list[tuple[float, float]] = []

    @override
    def on_step(self, step: int, record: Record) -> None:
        now = time.perf_counter()
        self.steps.append((now - record["seconds"], now))

    @override
    def on_checkpoint(self, state: TrainState) -> None:
        self._writer.save(draft_of(state, self._config, self._partitions))
        self._began = time.perf_counter()
        if self.steps:  # since the end of the step
            self.stalls.append(self._began - self.steps[-1][1])

    @override
    def on_end(self) -> None:
        self._writer.finish()

    def _on_saved(self, step: int) -> None:
        self.writes.append((self._began, time.perf_counter()))


def stall(config: Config) -> Stall:
    """Measure the cost of checkpoints for one worker that trains with `config`."""
    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}
    from cluster.engine.build import build_engine_and_learner

    torch.set_num_threads(1)
    address = f"file://{tempfile.mkdtemp()}/rendezvous"
    dist.init_process_group("gloo", address, rank=0, world_size=1)
    engine, learner = build_engine_and_learner(config, torch.device("cpu"))
    state = engine.begin()
    source, saver = open_tasks(config.data), _TimedSaver(config, engine.partitions)
    episodes = load_episodes(source, training_sampler(source, config), start=0)
    Trainer(config, engine, learner, episodes, state, [saver]).run()
    dist.destroy_process_group()

    def beside(step: tuple[float, float]) -> bool:
        return any(begin < step[1] and step[0] < end for begin, end in saver.writes)

    seconds = [(end - begin, beside((begin, end))) for begin, end in saver.steps]
    return Stall(
        median(s for s, busy in seconds if not busy),
        median([s for s, busy in seconds if busy] or [s for s, _ in seconds]),
        median(saver.stalls),
        median(end - begin for begin, end in saver.writes),
    )


def seconds_after_kill(overrides: list[str]) -> float:
    """Measure from the SIGKILL of one of two workers to the first new step."""
    command = [sys.executable, "-m", "cluster", "train", _DEMO, *overrides]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        steps = _steps(run)
        while (reached := next(steps)) < 40:
            pass
        workers = [
            process
            for process in psutil.Process(run.pid).children(recursive=True)
            if "RayTrainWorker" in " ".join(process.cmdline())
        ]
        workers[-1].kill()
        killed = time.perf_counter()
        while next(steps) <= reached:
            pass
        return time.perf_counter() - killed
    finally:
        run.send_signal(signal.SIGINT)
        run.communicate()


def _steps(run: "subprocess.Popen[str]") -> Iterator[int]:
    assert run.stdout
    lines = (re.search(r" step ([\d,]+)/", line) for line in run.stdout)
    return (int(line[1].replace(",", "")) for line in lines if line)


def main() -> None:
    """Measure and print both."""
    parser = argparse.ArgumentParser(description="Cost of fault tolerance.")
    parser.add_argument("--out", metavar="FILE", help="also write the results as JSON")
    parser.add_argument("--data", metavar="DIR", help="glyphs of 28 pixels; packed where missing")
    arguments = parser.parse_args()
    out = arguments.out
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or f"{folder}/data"
        pack("glyphs", data, size=28)
        overrides = [f"run.dir={folder}/runs", f"data.path={data}"]
        every = load_config(_DEMO).checkpoint.every
        # More checkpoints than the demo's three.
        often = ["run.name=stall", "meta.steps=60", "checkpoint.every=10", "cluster.workers=1"]
        measured = stall(load_config(_DEMO, [*overrides, *often]))
        kill = seconds_after_kill([*overrides, "checkpoint.every=20", "checkpoint.samples=false"])
    print(f"a step                                  {measured.step * 1e3:8.1f} ms")
    print(f"a step while a checkpoint is written    {measured.step_beside * 1e3:8.1f} ms")
    print(f"training waits for a checkpoint         {measured.checkpoint * 1e3:8.1f} ms")
    print(f"writing it, in the background           {measured.written * 1e3:8.1f} ms")
    print(f"cost at one in {every} steps              {measured.share(every):8.2%}")
    print(f"from SIGKILL to the first new step      {kill:8.1f} s")
    if out:
        results = measured._asdict() | {"share": measured.share(every), "kill": kill}
        Path(out).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
