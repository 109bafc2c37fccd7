"""The steps of the leaderboard, by the commands of `metatrain`; run again, they resume."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import metatrain
from benchmarks.equal_compute import PlannedTraining
from benchmarks.leaderboard.board import BASELINE, CHECKPOINTS, Board
from metatrain.config import to_yaml
from metatrain.training.checkpoint import CheckpointStore


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


def train(training: PlannedTraining) -> None:
    """Train a system, or resume its training."""
    url = training.config.run.url
    Path(url).mkdir(parents=True, exist_ok=True)
    file = Path(url, "leaderboard.yaml")
    file.write_text(to_yaml(training.config))
    metatrain("train", str(file))


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
        metatrain("combine", method, *models, "--out", f"{run}/model.safetensors")
    return Entry(name, run, tuple(made_of))


def entry_of(training: PlannedTraining) -> Entry:
    """Return a training as a system."""
    return Entry(training.name, training.config.run.url, (training,))


def evaluate(board: Board, entries: Sequence[Entry], folder: str) -> None:
    """Evaluate all systems on the same episodes, with the jointly trained one as a baseline."""
    [joint] = [entry.run for entry in entries if entry.name == BASELINE]
    options = ["--tasks", board.tasks, "--seeds", board.seeds, "--joint", joint]
    options += ["--data", f"{folder}/data", "--metric", f"{folder}/metric.safetensors"]
    metatrain("evaluate", *(entry.run for entry in entries), *map(str, options))


def report(entries: Sequence[Entry], page: str) -> None:
    """Write the page that compares all systems."""
    metatrain("report", *(entry.run for entry in entries), "--out", page)
