"""What the leaderboard compares, and how long each of it is trained."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.config import Config, StableName, load_config, with_values
from metatrain.plan.trace import to_be_traced, trace

# Of the trainings, the one by whose KID the others are measured.
BASELINE = "joint"
# Checkpoints of a training; the last half of them make its soup.
CHECKPOINTS = 8


class Board(Section):
    """The file of a leaderboard."""

    base: str = Field(description="The configuration that all systems share.")
    overrides: dict[str, Any] = Field(default={}, description="What is otherwise in it, for all.")
    flops: float = Field(gt=0, description="Operations of the outer gradients of a training.")
    tasks: int = Field(default=1000, ge=2, description="How many of the listed tasks at most.")
    seeds: int = Field(default=3, ge=1, description="How many of the listed seeds at most.")
    trained: dict[StableName, dict[str, Any]] = Field(description="By name, what is otherwise.")
    ensembles: dict[StableName, list[str]] = Field(
        default={}, description="By name, whose velocities are averaged."
    )


@dataclass(frozen=True)
class Training:
    """A system that is trained.

    Attributes:
        name: in tables.
        config: what it is trained by.
        flops: of all its outer gradients.
    """

    name: str
    config: Config
    flops: float


def read_board(path: str, overrides: Mapping[str, Any]) -> Board:
    """The leaderboard of a file, with other values for some keys.

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


def trainings(board: Board, folder: str) -> list[Training]:
    """The trainings at equal compute, all of whose runs go to `folder`."""
    return [_training(board, name, folder) for name in board.trained]


def _training(board: Board, name: str, folder: str) -> Training:
    given = {"run.name": name, "run.dir": folder, "data.path": f"{folder}/data"}
    values = board.overrides | board.trained[name] | given
    config = load_config(board.base, [f"{key}={json.dumps(v)}" for key, v in values.items()])
    each = trace(config, to_be_traced(config, config.meta.batch)).flops * config.meta.batch
    steps = max(CHECKPOINTS, round(board.flops / each))
    checkpoints = {"checkpoint.every": -(-steps // CHECKPOINTS), "checkpoint.keep": CHECKPOINTS}
    # Nobody looks at what is drawn on the way.
    checkpoints["checkpoint.samples"] = False
    short = {"meta.steps": steps, "meta.warmup": min(config.meta.warmup, steps // 10)}
    return Training(name, with_values(config, short | checkpoints), steps * each)
