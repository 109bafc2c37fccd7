"""Measure what a person waits for, beside the goals.

    python -m benchmarks.waiting [--only WORD ...]      # minutes; prints the table
    python -m benchmarks.waiting --ray --demo           # also training on Ray, and make demo
    python -m benchmarks.waiting --out docs/waiting.md  # writes the table into the page too

Every row is a command in a process of its own. The goal is compared with CPU seconds: a command
that computes on one core takes about as long on a quiet machine, and other load changes them
little. Wall seconds are of the machine as it is. Commands have one thread, but where the row says
otherwise.
"""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.provenance import commit, hardware
from metatrain.base.machine import cores

_METATRAIN = str(Path(sys.executable).with_name("metatrain"))
_IMAGES = "examples/lighthouse"
# What follows this line of a page is the table.
_MARK = "<!-- python -m benchmarks.waiting -->"
_POLL = 0.02

# Takes one outer step of a local training, and ends.
_FIRST_STEP = """
import os, sys, metatrain
config = metatrain.load_config("configs/demo.yaml", sys.argv[1:])
metatrain.train(config, device="cpu", on_step=lambda step, record: os._exit(0))
"""
# Samples an image after a few inner steps, as the studio's previews do.
_FIRST_PICTURE = """
import os, sys, metatrain
from metatrain.model.support import as_support
model = metatrain.load("emoji")
for at in model.adapt_stepwise(as_support(sys.argv[1], model.config.data)):
    if at.step == 4:
        at.model().images(1)
        os._exit(0)
"""
# Takes no memory from the command that it is beside.
_SPIN = "while True: pass"


@dataclass(frozen=True)
class Row:
    """A command that a person waits for.

    Attributes:
        name: what it does.
        command: the program and its arguments.
        goal: the most CPU seconds; None where there is no goal.
        until: tells, of the command's output so far, whether the wait is over; else until its end.
        threads: of the command; None for torch's default.
        busy: whether every core has other work meanwhile.
        status: the command's exit status.
    """

    name: str
    command: Sequence[str]
    goal: float | None = None
    until: Callable[[str], bool] | None = None
    threads: int | None = 1
    busy: bool = False
    status: int = 0


class Wait(NamedTuple):
    """Seconds of a wait: of all processors together, and of the clock."""

    cpu: float
    wall: float


def rows(folder: Path) -> Iterator[Row]:
    """Yield the rows of the short table, each of which may use what those before it wrote."""

    def refusal(name: str, *words: str) -> Row:
        return Row(f"refusal: {name}", [_METATRAIN, *words], 1, status=1)

    out, adapt = str(folder / "new"), [_METATRAIN, "adapt", "emoji", _IMAGES, "--out"]
    yield Row("metatrain config", [_METATRAIN, "config", "configs/emoji.yaml"], 1)
    yield refusal("a key that does not exist", "config", "inner.stepz=3")
    yield refusal("no configuration there", "train", "configs/none.yaml")
    yield refusal("no model there", "adapt", "runs/none", _IMAGES, "--out", out)
    yield refusal("no images there", "adapt", "emoji", "none", "--out", out)
    yield refusal("nothing to pack there", "pack", "none", f"{folder}/packed")
    first = [sys.executable, "-c", _FIRST_PICTURE, _IMAGES]
    yield Row("adapt, to the first picture, in Python", first, 2)
    yield Row("adapt, whole", [*adapt, out], 5)
    yield Row("adapt, torch's threads", [*adapt, out], 5, threads=None)
    yield Row("adapt, other work on all cores", [*adapt, out], 5, busy=True)
    yield Row("adapt, torch's threads, other work", [*adapt, out], 5, threads=None, busy=True)
    yield Row("generate, 64 images", [_METATRAIN, "generate", out, "--out", f"{out}/sheet.png"])
    studio = [_METATRAIN, "studio", "emoji", "--no-browser", "--dir", str(folder / "studio")]
    yield Row("studio, to its address", studio, 2, until=lambda text: "http://" in text)
    yield Row("studio, to its first answer", studio, until=_answers)
    pack = [_METATRAIN, "pack", "glyphs", f"{folder}/data", "--size", "28"]
    yield Row("pack glyphs", pack)
    local = [f"data.path={folder}/data", f"run.dir={folder}/runs", "run.name=local"]
    first = [sys.executable, "-c", _FIRST_STEP, *local]
    yield Row("local training, to the first step", first, 8)


def _answers(text: str) -> bool:
    """Tell whether a server has printed its address; return only once it answers there."""
    address = re.search(r"http://[\d.:]+", text)
    if address is None:
        return False
    with urllib.request.urlopen(f"{address[0]}/healthz") as answer:
        return answer.status == 200


def ray_rows(folder: Path) -> Iterator[Row]:
    """Yield a training on Ray; the data must be packed."""
    place = [f"data.path={folder}/data", f"run.dir={folder}/runs", "run.name=ray"]
    steps = ["meta.steps=1", "checkpoint.samples=false"]
    command = [_METATRAIN, "train", "configs/demo.yaml", *place, *steps]
    yield Row("training on Ray, one step, to its end", command)


def demo_rows(folder: Path) -> Iterator[Row]:
    """Yield the stages of `make demo` after installation; the data must be packed."""
    run = f"{folder}/runs/demo"
    place = [f"data.path={folder}/data", f"run.dir={folder}/runs"]
    stages = {
        "train": ["train", "configs/demo.yaml", *place],
        "evaluate": ["evaluate", run, "--tasks", "32", "--seeds", "1"],
        "adapt": ["adapt", run, f"{run}/evaluation/strips/00/support", "--out", f"{run}/adapted"],
        "generate": ["generate", f"{run}/adapted", "--out", f"{run}/adapted/grid.png"],
        "report": ["report", run],
    }
    for name, words in stages.items():
        yield Row(f"make demo: {name}", [_METATRAIN, *words], threads=None)


def measured(row: Row, repeats: int) -> Wait:
    """Return the median of so many waits."""
    with _other_work(cores() if row.busy else 0):
        waits = [_wait(row) for _ in range(repeats)]
    return Wait(*(statistics.median(part) for part in zip(*waits, strict=True)))


def _wait(row: Row) -> Wait:
    threads = {} if row.threads is None else {"OMP_NUM_THREADS": str(row.threads)}
    unset = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.NamedTemporaryFile() as output:
        started = time.monotonic()
        process = psutil.Popen(
            row.command,
            env=unset | threads,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            cpu = _seconds_until(row, process, Path(output.name))
            return Wait(cpu, time.monotonic() - started)
        finally:
            _end(process)


def _seconds_until(row: Row, process: psutil.Popen, output: Path) -> float:
    """Return the CPU seconds of a process and its children until the wait is over.

    Raises:
        RuntimeError: when it ends in another way.
    """
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            if code != row.status or row.until:
                raise RuntimeError(f"{row.name} ended with {code}:\n{output.read_text()}")
            return usage.ru_utime + usage.ru_stime
        if row.until and row.until(output.read_text()):
            tree = [process, *process.children(recursive=True)]
            return sum(sum(part.cpu_times()[:2]) for part in tree)
        time.sleep(_POLL)


def _end(process: psutil.Popen) -> None:
    """End a process that runs still, and all that it started."""
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(tree, timeout=10)
    for part in alive:
        part.kill()


@contextmanager
def _other_work(count: int) -> Iterator[None]:
    """Keep so many cores busy inside the context."""
    spinning = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def table(waits: Sequence[tuple[Row, Wait]]) -> str:
    """Return the table in Markdown."""
    lines = ["| | CPU s | wall s | goal | |", "|---|--:|--:|--:|---|"]
    for row, wait in waits:
        goal = "" if row.goal is None else f"{row.goal:g}"
        verdict = "" if row.goal is None else ("reached" if wait.cpu <= row.goal else "missed")
        lines.append(f"| {row.name} | {wait.cpu:.2f} | {wait.wall:.2f} | {goal} | {verdict} |")
    load = f"load of the machine {os.getloadavg()[2]:.1f}"
    return "\n".join([*lines, "", f"{hardware()}, {load}, commit {commit()[:12]}."])


def main() -> None:
    """Measure all rows, print their table, and write it into a page."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="metatrain-waiting-"))
    waits = []
    try:
        for part in [rows, *([ray_rows] * options.ray), *([demo_rows] * options.demo)]:
            for row in part(folder):
                if any(word in row.name for word in options.only or [""]):
                    waits.append((row, measured(row, options.repeats)))
                    print(table(waits[-1:]).splitlines()[2], flush=True)
    finally:
        shutil.rmtree(folder)
    print(f"\n{table(waits)}")
    if options.out:
        text = options.out.read_text().partition(_MARK)[0]
        options.out.write_text(f"{text}{_MARK}\n\n{table(waits)}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="rows with one of these in them")
    parser.add_argument("--ray", action="store_true", help="also a training on Ray")
    parser.add_argument("--demo", action="store_true", help="also the stages of make demo")
    parser.add_argument("--repeats", type=int, default=1, help="of every row, for a median (1)")
    parser.add_argument("--out", type=Path, help="page to write the table into")
    return parser.parse_args()


if __name__ == "__main__":
    main()
