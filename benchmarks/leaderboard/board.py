"""The systems of the leaderboard, and the length of each training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from benchmarks.equal_compute import PlannedTraining, planned_training
from benchmarks.leaderboard.domains import domain_url
from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.base.text import listed
from metatrain.config import StableName, load_config, with_values

# The training whose KID the others are compared with.
BASELINE = "joint"
# Checkpoints of a training; its soup is the mean of the last half.
CHECKPOINTS = 8


class DomainMixture(Section):
    """A mixture of models that were tuned to domains from a common start."""

    domains: int = Field(ge=2, description="Number of domains.")
    changes: dict[str, Any] = Field(description="Changes to the configuration.")


class Board(Section):
    """The file of a leaderboard."""

    base: str = Field(description="Configuration that all systems share.")
    overrides: dict[str, Any] = Field(default={}, description="Changes to it for all systems.")
    flops: float = Field(gt=0, description="Operations of all outer gradients of a training.")
    tasks: int = Field(default=1000, ge=2, description="Maximum number of listed tasks.")
    seeds: int = Field(default=3, ge=1, description="Maximum number of listed seeds.")
    trained: dict[StableName, dict[str, Any]] = Field(
        description="By name, the changes of a system."
    )
    mixtures: dict[StableName, DomainMixture] = Field(
        default={}, description="By name, the training of a mixture's members."
    )
    ensembles: dict[StableName, list[str]] = Field(
        default={}, description="By name, the members of an ensemble."
    )


def read_board(path: str, overrides: Mapping[str, Any]) -> Board:
    """Read the file of a leaderboard, with other values for some keys.

    Raises:
        UserError: when it cannot be used.
    """
    values = yaml.safe_load(Path(path).read_text()) | overrides
    try:
        board = Board.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    members = [name for names in board.ensembles.values() for name in names]
    unknown = [name for name in [BASELINE, *members] if name not in board.trained]
    if unknown:
        raise UserError(f"{path} has no '{unknown[0]}' under trained, which it needs.")
    return board


def part_of(board: Board, names: Sequence[str]) -> Board:
    """Return the board with the systems `names` alone, beside the one to compare with.

    Raises:
        UserError: when the board has no such system.
    """
    systems = [*board.trained, *board.mixtures, *board.ensembles]
    if unknown := [name for name in names if name not in systems]:
        raise UserError(f"the board has no system '{unknown[0]}'; it has {listed(systems)}.")
    members = [member for name in names for member in board.ensembles.get(name, [])]
    wanted = {BASELINE, *names, *members}
    parts = {
        part: {name: value for name, value in getattr(board, part).items() if name in wanted}
        for part in ("trained", "mixtures", "ensembles")
    }
    return board.model_copy(update=parts)


def trainings(board: Board, folder: str) -> list[PlannedTraining]:
    """Plan the trainings at equal compute, with their runs in `folder`."""
    return [
        _training(board, name, changes, board.flops, folder)
        for name, changes in board.trained.items()
    ]


def mixture_trainings(board: Board, name: str, folder: str) -> list[PlannedTraining]:
    """Plan the trainings of a mixture: its start, and from there one for each domain."""
    mixture = board.mixtures[name]
    start = _training(board, f"{name}-start", mixture.changes, board.flops / 2, folder)
    share = board.flops / 2 / mixture.domains

    def of_domain(number: int) -> dict[str, Any]:
        data = domain_url(f"{folder}/data", number)
        return {"run.init": start.config.run.url, "data.path": data}

    tuned = [
        _training(board, f"{name}-{number}", mixture.changes | of_domain(number), share, folder)
        for number in range(1, mixture.domains + 1)
    ]
    return [start, *tuned]


def _training(
    board: Board, name: str, changes: Mapping[str, Any], flops: float, folder: str
) -> PlannedTraining:
    places = {"data.path": f"{folder}/data", "run.name": name, "run.dir": folder}
    values = board.overrides | places | dict(changes)
    config = load_config(board.base, [f"{key}={json.dumps(v)}" for key, v in values.items()])
    planned = planned_training(name, config, flops, least_steps=CHECKPOINTS)
    every = -(-planned.config.meta.steps // CHECKPOINTS)
    checkpoints = {"checkpoint.every": every, "checkpoint.keep": CHECKPOINTS}
    # Sample grids would only cost time.
    checkpoints["checkpoint.samples"] = False
    return replace(planned, config=with_values(planned.config, checkpoints))
