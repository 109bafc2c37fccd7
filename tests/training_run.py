"""The training command in its own process, with kills and signals for its workers."""

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
from metatrain.model.build import build_learner, build_theta

COMMAND = [sys.executable, "-m", "cluster", "train"]
ROOT = Path(__file__).parents[1]
# A package that adds parts by entry points, as it would be installed.
PLUGIN = ROOT / "tests/plugin"


class Run:
    """A process of the training command, whose output is read line by line."""

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
            # A shell makes background processes ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def until(self, step: int) -> "Run":
        """Read until a progress line reports `step` outer steps."""
        return self.until_line(lambda line: step_of(line) >= step, f"step {step}")

    def until_text(self, words: str) -> "Run":
        """Read until a line contains `words`."""
        return self.until_line(lambda line: words in line, words)

    def until_line(self, matches, description: str) -> "Run":
        """Read until `matches` is true of a line; fail with the description where none is."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if matches(line):
                return self
        raise AssertionError(f"ended before {description}:\n" + self.output)

    def wait(self) -> int:
        """Read the output to its end, and return the exit status."""
        assert self.process.stdout
        self.lines += self.process.stdout
        return self.process.wait()

    def kill_driver(self) -> None:
        """Kill the driver, after which none of its processes lives on for 5 s."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.wait()
        _, alive = psutil.wait_procs(family, timeout=5)
        end(alive)
        assert not alive, f"orphans: {alive}"

    def end(self) -> None:
        """Kill all processes of the run that still exist."""
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            end([psutil.Process(self.process.pid), *family])

    def signal_a_worker(self, *numbers: int) -> "Run":
        """Send signals, 0.15 s apart, to the last worker."""
        workers = actors("RayTrainWorker")
        for number in numbers:
            with suppress(psutil.NoSuchProcess):
                workers[-1].send_signal(number)
            time.sleep(0.15)
        return self

    @property
    def output(self) -> str:
        return "".join(self.lines)


def actors(*classes: str) -> list[psutil.Process]:
    """List Ray's actors of some classes among this process's descendants."""
    family = psutil.Process().children(recursive=True)
    title = re.compile(f"ray::({'|'.join(classes)})")
    return [process for process in family if title.search(process_text(process, "cmdline"))]


def end(processes: list[psutil.Process]) -> None:
    """Kill processes; some may have ended."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def process_text(process: psutil.Process, attribute: str) -> str:
    """Return a process's `name` or `cmdline`; empty where it has ended."""
    with suppress(psutil.NoSuchProcess):
        return str(getattr(process, attribute)())
    return ""


def step_of(line: str) -> int:
    """Return the outer step of a progress line; -1 for any other line."""
    progress = re.match(r"\d+-\d\d-\d\d \d\d:\d\d:\d\d step ([\d,]+)/", line)
    return int(progress[1].replace(",", "")) if progress else -1


def plain_torch(config, steps):
    """Train the same run in one loop, without engine, trainer and workers."""
    source = open_tasks(config.data)
    sampler = source.sampler("train", seed=config.seed, meta_batch=config.meta.batch)
    learner = build_learner(config, build_theta(config))
    theta = build_theta(config).named()
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
