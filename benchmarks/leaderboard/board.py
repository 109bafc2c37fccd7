"""The systems of the leaderboard, and the length of each training."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from benchmarks.equal_compute import PlannedTraining, planned_training
from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.config import StableName, load_config, with_values

# The training whose KID the others are compared with.
BASELINE = "joint"
# Checkpoints of a training; its soup is the mean of the last half.
CHECKPOINTS = 8


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


def trainings(board: Board, folder: str) -> list[PlannedTraining]:
    """Plan the trainings at equal compute, with their runs in `folder`."""
    return [_training(board, name, folder) for name in board.trained]


def _training(board: Board, name: str, folder: str) -> PlannedTraining:
    places = {"run.name": name, "run.dir": folder, "data.path": f"{folder}/data"}
    values = board.overrides | board.trained[name] | places
    config = load_config(board.base, [f"{key}={json.dumps(v)}" for key, v in values.items()])
    planned = planned_training(name, config, board.flops, least_steps=CHECKPOINTS)
    every = -(-planned.config.meta.steps // CHECKPOINTS)
    checkpoints = {"checkpoint.every": every, "checkpoint.keep": CHECKPOINTS}
    # Sample grids would only cost time.
    checkpoints["checkpoint.samples"] = False
    return replace(planned, config=with_values(planned.config, checkpoints))
