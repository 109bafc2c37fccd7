"""The steps of the leaderboard; run again, they resume."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import metatrain
from benchmarks.equal_compute import PlannedTraining
from benchmarks.leaderboard.board import BASELINE, CHECKPOINTS, Board, mixture_trainings
from benchmarks.leaderboard.domains import pack_domains
from metatrain.api import train as train_locally
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


def train(training: PlannedTraining) -> Entry:
    """Train a system on one core, or resume its training."""
    url = training.config.run.url
    Path(url).mkdir(parents=True, exist_ok=True)
    Path(url, "leaderboard.yaml").write_text(to_yaml(training.config))
    print("training", training.name, flush=True)
    train_locally(training.config, device="cpu")
    return Entry(training.name, url, (training,))


def soups(entries: Sequence[Entry], folder: str) -> list[Entry]:
    """Make a soup of the last checkpoints of each training."""
    made = []
    for entry in entries:
        store = CheckpointStore(entry.run)
        last = [store.folder(step) for step in store.steps()[-CHECKPOINTS // 2 :]]
        made.append(_combined(f"{entry.name}-soup", "uniform", last, entry.made_of, folder))
    return made


def ensembles(board: Board, entries: Sequence[Entry], folder: str) -> list[Entry]:
    """Make the ensembles of trained systems."""
    trained = {entry.name: entry for entry in entries}
    made = []
    for name, members in board.ensembles.items():
        runs = [trained[member].run for member in members]
        made_of = [training for member in members for training in trained[member].made_of]
        made.append(_combined(name, "ensemble", runs, made_of, folder))
    return made


def mixtures(board: Board, folder: str) -> list[Entry]:
    """Train the members of the mixtures, and mix them; each tuned member is a system, too."""
    made = []
    for name, mixture in board.mixtures.items():
        start, *tuned = mixture_trainings(board, name, folder)
        data = start.config.data
        pack_domains(data.path, mixture.domains, size=data.image_size, channels=data.channels)
        runs = [train(training).run for training in (start, *tuned)]
        made.append(_combined(name, "mixture", runs, (start, *tuned), folder))
        made += [Entry(t.name, t.config.run.url, (start, t)) for t in tuned]
    return made


def _combined(
    name: str, method: str, models: Sequence[str], made_of: Sequence[PlannedTraining], folder: str
) -> Entry:
    run = f"{folder}/{name}"
    if not Path(run, "model.safetensors").exists():
        metatrain("combine", method, *models, "--out", f"{run}/model.safetensors")
    return Entry(name, run, tuple(made_of))


def evaluate(board: Board, entries: Sequence[Entry], folder: str, workers: int | None) -> None:
    """Evaluate all systems on the same episodes, with the jointly trained one as a baseline."""
    [joint] = [entry.run for entry in entries if entry.name == BASELINE]
    options = ["--tasks", board.tasks, "--seeds", board.seeds, "--joint", joint]
    options += ["--data", f"{folder}/data", "--metric", f"{folder}/metric.safetensors"]
    options += ["--workers", workers] if workers else []
    metatrain("evaluate", *(entry.run for entry in entries), *map(str, options))


def report(entries: Sequence[Entry], page: str) -> None:
    """Write the page that compares all systems."""
    metatrain("report", *(entry.run for entry in entries), "--out", page)
