"""One class of backbone under one learner: measured once, kept in a file."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.backbones.models import config_of
from benchmarks.backbones.plain_loop import PlainLoop
from benchmarks.gradients.measure import times
from benchmarks.provenance import commit, hardware
from metatrain.config import Config, with_values
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.model.build import build_learner, build_theta
from metatrain.plan.trace import trace

_SHOTS, _RATE = 4, 1e-3


@dataclass(frozen=True, kw_only=True)
class BackboneCell:
    """Settings of a measurement.

    Attributes:
        kind: the class of the backbone.
        learner: the learner.
        width: of the backbone, in channels.
        steps: inner steps.
        rounds: of both systems in turn.
    """

    kind: str
    learner: str
    width: int
    steps: int
    rounds: int

    @property
    def key(self) -> str:
        """The name of the cell's file, by all of its settings."""
        digest = hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]
        return f"{self.kind}-{self.learner}-{digest}"


@dataclass(frozen=True, kw_only=True)
class CellTimes:
    """Measurements of a cell.

    Attributes:
        ours: seconds of a processor for the learner's gradient of an episode.
        plain: those of the plain loop.
        held: bytes that the gradient holds beside theta, by inner steps, as plans count them.
        commit: sha of the commit that measured it.
        hardware: the machine.
    """

    ours: float
    plain: float
    held: dict[int, int]
    commit: str
    hardware: str


def measured(cell: BackboneCell, folder: Path) -> CellTimes:
    """Return a cell's measurements: from its file, or measured now and written there."""
    file = folder / f"{cell.key}.json"
    if file.exists():
        values = json.loads(file.read_text())
        held = {int(steps): size for steps, size in values.pop("held").items()}
        return CellTimes(**values, held=held)
    result = _measure(cell, folder)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(asdict(result), indent=1))
    part.rename(file)
    return result


def _measure(cell: BackboneCell, folder: Path) -> CellTimes:
    config = _config(cell, folder)
    place = build_theta(config)
    plain, episode = PlainLoop(place.generator, config), _episode(config)
    learner, theta = build_learner(config, place), place.copy()
    systems = {
        "ours": lambda: learner.episode_gradient(theta, episode, 0),
        "plain": lambda: plain.run(cell.learner, episode),
    }
    for system in systems.values():  # to warm up
        system()
    taken = times(systems, cell.rounds)
    held = {steps: _held(config, steps) for steps in (2, cell.steps, 4 * cell.steps)}
    seconds = {name: time.cpu for name, time in taken.items()}
    return CellTimes(**seconds, held=held, commit=commit(), hardware=hardware())


def _held(config: Config, steps: int) -> int:
    cost = trace(with_values(config, {"inner.steps": steps}), episodes=1)
    return cost.weights + cost.activations


def _config(cell: BackboneCell, folder: Path) -> Config:
    overrides = [
        *(f"data.shots={_SHOTS}", f"data.queries={_SHOTS}", f"learner.name={cell.learner}"),
        *(f"inner.steps={cell.steps}", f"inner.lr={_RATE}", "inner.optimizer=sgd"),
    ]
    return config_of(folder / "models", cell.kind, cell.width, overrides)


def _episode(config: Config) -> Episode:
    size = config.data.image_size
    shape = (2 * _SHOTS, config.data.channels, size, size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Episode("task", *Examples(images).split(_SHOTS), 0)
