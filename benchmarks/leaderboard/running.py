"""The leaderboard's work, all of it by the commands that a user has; run again, it goes on."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.leaderboard.board import BASELINE, CHECKPOINTS, Board, Training
from metatrain.config import to_yaml
from metatrain.training.checkpoint import CheckpointStore

# Beside the interpreter, where the package was installed.
_METATRAIN = str(Path(sys.executable).with_name("metatrain"))


@dataclass(frozen=True)
class Entry:
    """A system of the leaderboard.

    Attributes:
        name: in tables.
        run: the folder of its model and its evaluation.
        made_of: the trainings behind it.
    """

    name: str
    run: str
    made_of: tuple[Training, ...]

    @property
    def folder(self) -> str:
        """Where its evaluation lies."""
        return f"{self.run}/evaluation"


def pack(folder: str) -> None:
    """Pack the benchmark, where it is not there yet."""
    if not Path(folder, "data", "manifest.parquet").exists():
        _do("pack", "icons", f"{folder}/data", "--size", "32")


def train(training: Training) -> None:
    """Train a system, or go on with it."""
    url = training.config.run.url
    Path(url).mkdir(parents=True, exist_ok=True)
    file = Path(url, "leaderboard.yaml")
    file.write_text(to_yaml(training.config))
    _do("train", str(file))


def combine(board: Board, trained: dict[str, Training], folder: str) -> list[Entry]:
    """Make a soup of each, and the ensembles."""
    entries = []
    for name, training in trained.items():
        store = CheckpointStore(training.config.run.url)
        last = [store.folder(step) for step in store.steps()[-CHECKPOINTS // 2 :]]
        entries.append(_combined(f"{name}-soup", "uniform", last, [training], folder))
    for name, members in board.ensembles.items():
        runs = [trained[member].config.run.url for member in members]
        entries.append(_combined(name, "ensemble", runs, [trained[m] for m in members], folder))
    return entries


def _combined(
    name: str, how: str, models: Sequence[str], made_of: Sequence[Training], folder: str
) -> Entry:
    run = f"{folder}/{name}"
    if not Path(run, "model.safetensors").exists():
        _do("combine", how, *models, "--out", f"{run}/model.safetensors")
    return Entry(name, run, tuple(made_of))


def entry_of(training: Training) -> Entry:
    """A training as a system."""
    return Entry(training.name, training.config.run.url, (training,))


def evaluate(board: Board, entries: Sequence[Entry], folder: str) -> None:
    """Score all systems on the same episodes, beside the jointly trained one."""
    [joint] = [entry.run for entry in entries if entry.name == BASELINE]
    chosen = ["--tasks", board.tasks, "--seeds", board.seeds, "--joint", joint]
    chosen += ["--data", f"{folder}/data", "--metric", f"{folder}/metric.safetensors"]
    _do("evaluate", *(entry.run for entry in entries), *map(str, chosen))


def report(entries: Sequence[Entry], page: str) -> None:
    """Write the page that compares all systems."""
    _do("report", *(entry.run for entry in entries), "--out", page)


def hardware() -> str:
    """What this was measured on."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, {platform.machine()}"


def commit() -> str:
    """The commit that runs."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def _do(*arguments: str) -> None:
    print("$ metatrain", *arguments, flush=True)
    code = subprocess.run([_METATRAIN, *arguments]).returncode
    if code:
        raise SystemExit(code)  # the command has said why
