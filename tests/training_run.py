"""One start of the training command in its own process, and what may be done to it."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil
import torch

from metatrain.data.loader import open_tasks
from metatrain.model.build import build_generator, build_learner

COMMAND = [sys.executable, "-m", "cluster", "train"]
ROOT = Path(__file__).parents[1]
# A package that adds parts by entry points, as it would be installed.
PLUGIN = ROOT / "tests/plugin"


class Run:
    """One start of the training command, followed line by line."""

    started: ClassVar[list["Run"]] = []

    def __init__(
        self, overrides: list[str], folder: Path, command: list[str] | None = None
    ) -> None:
        config = folder / "empty.yaml"
        config.write_text("seed: 0\n")
        command = command or [*COMMAND, str(config)]
        self.lines: list[str] = []
        Run.started.append(self)
        self.process = subprocess.Popen(
            [*command, *overrides],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, PLUGIN)))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that starts things in the background has them ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def until(self, step: int) -> "Run":
        """Read on until the run says that it has taken `step` outer steps."""
        return self.until_line(lambda line: step_of(line) >= step, f"step {step}")

    def until_said(self, words: str) -> "Run":
        """Read on until the run says `words`."""
        return self.until_line(lambda line: words in line, words)

    def until_line(self, wanted, what: str) -> "Run":
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if wanted(line):
                return self
        raise AssertionError(f"ended before {what}:\n" + self.output)

    def wait(self) -> int:
        """Read to the end and return the exit status."""
        assert self.process.stdout
        self.lines += self.process.stdout
        return self.process.wait()

    def kill_driver(self) -> None:
        """SIGKILL, and wait until Ray has noticed and ended what trains."""
        rest = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.wait()
        # Ray's agents look for their raylet once in a while only; they hold no resources.
        agents = [process for process in rest if "Agent" in said_of(process, "name")]
        _, alive = psutil.wait_procs([p for p in rest if p not in agents], timeout=60)
        assert not alive, f"orphans: {alive}"
        end(agents)

    def end(self) -> None:
        """End what still runs, whatever the test was about."""
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            end([psutil.Process(self.process.pid), *family])

    def signal_a_worker(self, *numbers: int) -> "Run":
        """Send signals, 0.15 s apart, to the last of the processes that train."""
        workers = actors("RayTrainWorker")
        for number in numbers:
            with suppress(psutil.NoSuchProcess):
                workers[-1].send_signal(number)
            time.sleep(0.15)
        return self

    @property
    def output(self) -> str:
        return "".join(self.lines)


def actors(*kinds: str) -> list[psutil.Process]:
    """Ray's actors of some kinds, in all clusters that this process and its own have started."""
    family = psutil.Process().children(recursive=True)
    title = re.compile(f"ray::({'|'.join(kinds)})")
    return [process for process in family if title.search(said_of(process, "cmdline"))]


def end(processes: list[psutil.Process]) -> None:
    """Kill those that have not ended meanwhile."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def said_of(process: psutil.Process, what: str) -> str:
    """Its name or command line; empty where it has ended."""
    with suppress(psutil.NoSuchProcess):
        return str(getattr(process, what)())
    return ""


def step_of(line: str) -> int:
    """The outer step that a progress line tells of; -1 for any other line."""
    if not line.startswith("step "):
        return -1
    return int(line.split()[1].partition("/")[0].replace(",", ""))


def plain_torch(config, steps):
    """The same run as one loop: no engine, no trainer, no workers."""
    source = open_tasks(config.data)
    sampler = source.sampler("train", seed=config.seed, meta_batch=config.meta.batch)
    learner = build_learner(config, build_generator(config))
    theta = dict(build_generator(config).named_parameters())
    optimizer = torch.optim.SGD(theta.values(), lr=0.0)
    for step in range(steps):
        detached = {name: p.detach() for name, p in theta.items()}
        slots = [sampler.plan(step, slot) for slot in range(config.meta.batch)]
        episodes = [source.read(plan) for plan in slots]
        gradients = [learner.episode_gradient(detached, e, step).gradient for e in episodes]
        for name, p in theta.items():
            p.grad = sum(g[name] for g in gradients) / config.meta.batch
        warm, fall = (step + 1) / (config.meta.warmup + 1), config.meta.steps - step
        fall /= config.meta.decay * config.meta.steps
        optimizer.param_groups[0]["lr"] = config.meta.lr * min(1.0, warm, fall)
        optimizer.step()
    return {name: p.detach() for name, p in theta.items()}
