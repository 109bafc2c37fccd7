"""What surviving costs: how long a checkpoint stalls training, and how long a kill does.

    python -m benchmarks.cluster.recovery --out recovery.json

Both with the demo's configuration (configs/demo.yaml), the first in this process, the second by the
training command, of whose workers one is killed. Takes 3 to 5 minutes on 2 cores.
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

from metatrain.config import Config, load_config
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.data.packing.pack import pack
from metatrain.model.build import build_learner, build_theta
from metatrain.training.checkpoint import ALONE, BackgroundWriter, CheckpointStore, draft_of
from metatrain.training.observer import Observer
from metatrain.training.run_data import training_sampler
from metatrain.training.state import Record, TrainState, first_state
from metatrain.training.trainer import Trainer

_DEMO = "configs/demo.yaml"


class Stall(NamedTuple):
    """Seconds, medians: a step on its own, one beside which is written, and a checkpoint's own."""

    step: float
    step_beside: float
    checkpoint: float
    written: float

    def share(self, every: int) -> float:
        """Of the time between two checkpoints, what they cost training."""
        slower = max(0.0, self.step_beside - self.step) * self.written / self.step_beside
        return (self.checkpoint + slower) / (every * self.step)


class _Watch(Observer):
    """Saves as the cluster does, and notes what training waits for it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._store = CheckpointStore(config.run.url)
        self._writer = BackgroundWriter(self._store, ALONE, 0, print, self._on_saved)
        self.steps: list[tuple[float, float]] = []
        self.stalls: list[float] = []
        self.writes: list[tuple[float, float]] = []

    def on_step(self, step: int, record: Record) -> None:
        now = time.perf_counter()
        self.steps.append((now - record["seconds"], now))

    def on_checkpoint(self, state: TrainState) -> None:
        self._writer.save(draft_of(state, self._config))
        self._began = time.perf_counter()
        if self.steps:  # from the end of a step on, for the state is gathered before
            self.stalls.append(self._began - self.steps[-1][1])

    def on_end(self) -> None:
        self._writer.finish()

    def _on_saved(self, step: int) -> None:
        self.writes.append((self._began, time.perf_counter()))


def stall(config: Config) -> Stall:
    """What checkpoints cost one worker that trains as `config` says."""
    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}
    from cluster.engine.zero import ZeroEngine

    torch.set_num_threads(1)
    address = f"file://{tempfile.mkdtemp()}/rendezvous"
    dist.init_process_group("gloo", address, rank=0, world_size=1)
    state = first_state(build_theta(config))
    source, watch = open_tasks(config.data), _Watch(config)
    episodes = load_episodes(source, training_sampler(source, config), start=0)
    engine = ZeroEngine(build_theta(config), config)
    learner = build_learner(config, build_theta(config))
    Trainer(config, engine, learner, episodes, state, [watch]).run()
    dist.destroy_process_group()

    def beside(step: tuple[float, float]) -> bool:
        return any(begin < step[1] and step[0] < end for begin, end in watch.writes)

    seconds = [(end - begin, beside((begin, end))) for begin, end in watch.steps]
    return Stall(
        median(s for s, busy in seconds if not busy),
        median([s for s, busy in seconds if busy] or [s for s, _ in seconds]),
        median(watch.stalls),
        median(end - begin for begin, end in watch.writes),
    )


def seconds_after_kill(overrides: list[str]) -> float:
    """From the SIGKILL of one of two workers to the first step that was not there before."""
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
    lines = (re.match(r"step ([\d,]+)/", line) for line in run.stdout)
    return (int(line[1].replace(",", "")) for line in lines if line)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="What surviving costs.")
    parser.add_argument("--out", metavar="FILE", help="also write what was measured as JSON")
    parser.add_argument("--data", metavar="DIR", help="glyphs of 28 pixels; packed where missing")
    arguments = parser.parse_args()
    out = arguments.out
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or f"{folder}/data"
        pack("glyphs", data, size=28)
        overrides = [f"run.dir={folder}/runs", f"data.path={data}"]
        every = load_config(_DEMO).checkpoint.every
        # Checkpoints more often than the demo's, for there would be three of them.
        often = ["run.name=stall", "meta.steps=60", "checkpoint.every=10", "cluster.workers=1"]
        found = stall(load_config(_DEMO, [*overrides, *often]))
        kill = seconds_after_kill([*overrides, "checkpoint.every=20", "checkpoint.samples=false"])
    print(f"a step                                  {found.step * 1e3:8.1f} ms")
    print(f"a step while a checkpoint is written    {found.step_beside * 1e3:8.1f} ms")
    print(f"training waits for a checkpoint         {found.checkpoint * 1e3:8.1f} ms")
    print(f"writing it, in the background           {found.written * 1e3:8.1f} ms")
    print(f"cost at one in {every} steps              {found.share(every):8.2%}")
    print(f"from SIGKILL to the first new step      {kill:8.1f} s")
    if out:
        measured = found._asdict() | {"share": found.share(every), "kill": kill}
        Path(out).write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
