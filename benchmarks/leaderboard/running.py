"""The steps of the leaderboard, by the commands of `metatrain`; run again, they resume."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.leaderboard.board import BASELINE, CHECKPOINTS, Board, PlannedTraining
from metatrain.config import to_yaml
from metatrain.training.checkpoint import CheckpointStore

# The command beside the interpreter of the environment.
_COMMAND = str(Path(sys.executable).with_name("metatrain"))


@dataclass(frozen=True)
class Entry:
    """A system of the leaderboard.

    Attributes:
        name: its name in tables.
        run: folder of its model and its evaluation.
        made_of: its trainings.
    """

    name: str
    run: str
    made_of: tuple[PlannedTraining, ...]

    @property
    def folder(self) -> str:
        """The folder of its evaluation."""
        return f"{self.run}/evaluation"


def pack(folder: str) -> None:
    """Pack the benchmark, if it is not packed yet."""
    if not Path(folder, "data", "manifest.parquet").exists():
        _metatrain("pack", "icons", f"{folder}/data", "--size", "32")


def train(training: PlannedTraining) -> None:
    """Train a system, or resume its training."""
    url = training.config.run.url
    Path(url).mkdir(parents=True, exist_ok=True)
    file = Path(url, "leaderboard.yaml")
    file.write_text(to_yaml(training.config))
    _metatrain("train", str(file))


def combine(board: Board, trained: dict[str, PlannedTraining], folder: str) -> list[Entry]:
    """Make a soup of each training, and the ensembles."""
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
    name: str, method: str, models: Sequence[str], made_of: Sequence[PlannedTraining], folder: str
) -> Entry:
    run = f"{folder}/{name}"
    if not Path(run, "model.safetensors").exists():
        _metatrain("combine", method, *models, "--out", f"{run}/model.safetensors")
    return Entry(name, run, tuple(made_of))


def entry_of(training: PlannedTraining) -> Entry:
    """Return a training as a system."""
    return Entry(training.name, training.config.run.url, (training,))


def evaluate(board: Board, entries: Sequence[Entry], folder: str) -> None:
    """Evaluate all systems on the same episodes, with the jointly trained one as a baseline."""
    [joint] = [entry.run for entry in entries if entry.name == BASELINE]
    options = ["--tasks", board.tasks, "--seeds", board.seeds, "--joint", joint]
    options += ["--data", f"{folder}/data", "--metric", f"{folder}/metric.safetensors"]
    _metatrain("evaluate", *(entry.run for entry in entries), *map(str, options))


def report(entries: Sequence[Entry], page: str) -> None:
    """Write the page that compares all systems."""
    _metatrain("report", *(entry.run for entry in entries), "--out", page)


def hardware() -> str:
    """Describe this machine's GPUs, or its cores if it has none."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, {platform.machine()}"


def commit() -> str:
    """Return the sha of the checked-out commit."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return head.stdout.strip()


def _metatrain(*arguments: str) -> None:
    print("$ metatrain", *arguments, flush=True)
    code = subprocess.run([_COMMAND, *arguments]).returncode
    if code:
        raise SystemExit(code)  # the command has printed the reason
