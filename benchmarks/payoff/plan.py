"""The cells of the payoff, and the trainings of each."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from benchmarks.equal_compute import PlannedTraining, planned_training
from benchmarks.payoff.unlabelled import Groups, grouped_tasks
from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.config import Config, StableName, load_config, read_yaml, with_values

# The method that the others are compared with, and the one without training.
JOINT, SCRATCH = "joint", "scratch"
# An interrupted training loses at most so many operations.
_CHECKPOINT_FLOPS = 2e12
_TERA = 1e12


class DataSet(Section):
    """A data set: how it is packed, and the configuration of its trainings."""

    pack: list[str] = Field(min_length=1, description="Source and options of `metatrain pack`.")
    base: str = Field(description="Configuration that all methods share.")
    overrides: dict[str, Any] = Field(default={}, description="Changes to it.")


class Stage(Section):
    """A part of a method's training."""

    share: float = Field(default=1.0, gt=0, le=1, description="Share of the budget.")
    changes: dict[str, Any] = Field(description="Changes to the configuration.")
    groups: Groups | None = Field(
        default=None, description="Groups of images to train on in place of tasks; null: tasks."
    )


class Plan(Section):
    """The file of the payoff."""

    overrides: dict[str, Any] = Field(default={}, description="Changes for all data sets.")
    tflop: list[float] = Field(min_length=1, description="Budgets of a training.")
    seeds: list[int] = Field(min_length=1, description="Seeds of the trainings.")
    inner_steps: list[int] = Field(min_length=1, description="Inner steps to score after.")
    rates: list[float] = Field(min_length=1, description="Rates of adapting to choose from.")
    validation_tasks: int = Field(ge=2, description="Tasks of the split val to choose on.")
    test_tasks: int = Field(ge=2, description="Maximum number of tasks of the split test.")
    data: dict[StableName, DataSet] = Field(min_length=1)
    methods: dict[StableName, list[Stage]] = Field(description="Stages of each method.")


@dataclass(frozen=True, order=True)
class Cell:
    """One training of the payoff.

    Attributes:
        data: name of the data set.
        tflop: budget of the training; 0 for random weights.
        seed: seed of the training.
        method: name of the method.
    """

    data: str
    tflop: float
    seed: int
    method: str

    @property
    def name(self) -> str:
        """The cell's name, such as `icons-32/joint/4/0`."""
        return f"{self.data}/{self.method}/{self.tflop:g}/{self.seed}"


def read_plan(path: str) -> Plan:
    """Read the file of the payoff.

    Raises:
        UserError: when it cannot be used.
    """
    try:
        plan = Plan.model_validate(yaml.safe_load(Path(path).read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    if JOINT not in plan.methods:
        raise UserError(f"{path} has no '{JOINT}' under methods, with which others are compared.")
    if sorted(set(plan.inner_steps)) != plan.inner_steps:
        raise UserError(f"{path} has inner_steps {plan.inner_steps}; list them in rising order.")
    return plan


def all_cells(plan: Plan) -> list[Cell]:
    """List all cells, the cheap ones of each data set first."""
    return [
        Cell(data, tflop, seed, method)
        for data in plan.data
        for tflop in [0.0, *sorted(plan.tflop)]
        for seed in plan.seeds
        for method, stages in plan.methods.items()
        if bool(stages) == bool(tflop)
    ]


def chosen_cells(
    cells: Sequence[Cell], patterns: Sequence[str], budgets: Sequence[float]
) -> list[Cell]:
    """Return the cells whose names match one of `patterns`, with one of `budgets`; [] is all.

    Raises:
        UserError: when there is no such cell.
    """
    kept = [
        cell
        for cell in cells
        if (not patterns or any(_matches(cell, pattern) for pattern in patterns))
        and (not budgets or cell.tflop in budgets)
    ]
    if not kept:
        raise UserError(f"no cell matches; all cells are such as '{cells[-1].name}', see --list.")
    return kept


def _matches(cell: Cell, pattern: str) -> bool:
    return fnmatch(cell.name, pattern) or cell.name.startswith(pattern.rstrip("/") + "/")


def cell_key(plan: Plan, cell: Cell) -> str:
    """Hash what the file says of a cell, and its base; a result with another key is out of date.

    Raises:
        UserError: when the base cannot be read.
    """
    of, stages = plan.data[cell.data], plan.methods[cell.method]
    shared = plan.model_dump(mode="json", exclude={"data", "methods", "tflop", "seeds"})
    parts = [cell.name, of.pack, of.overrides, read_yaml(of.base), shared]
    parts += [stage.model_dump(mode="json") for stage in stages]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cell_config(plan: Plan, cell: Cell, data_url: str, changes: Mapping[str, Any]) -> Config:
    """Return the configuration of a cell with the changes of a stage.

    Raises:
        UserError: when it is not valid.
    """
    of = plan.data[cell.data]
    fixed = {"data.path": data_url, "seed": cell.seed, "adapt.steps": plan.inner_steps[-1]}
    values = plan.overrides | of.overrides | dict(changes) | fixed
    return load_config(of.base, [f"{key}={json.dumps(v)}" for key, v in values.items()])


def cell_trainings(plan: Plan, cell: Cell, data_url: str, folder: str) -> list[PlannedTraining]:
    """Plan the trainings of a cell, one a stage, with their runs in `folder`."""
    planned: list[PlannedTraining] = []
    for number, stage in enumerate(plan.methods[cell.method], start=1):
        start = {"run.init": planned[-1].config.run.url} if planned else {}
        run = {"run.dir": folder, "run.name": f"stage-{number}", **start}
        tasks = grouped_tasks(data_url, stage.groups) if stage.groups else {}
        config = cell_config(plan, cell, data_url, {**stage.changes, **tasks, **run})
        training = planned_training(cell.name, config, cell.tflop * stage.share * _TERA)
        planned.append(_with_checkpoints(training))
    return planned


def _with_checkpoints(training: PlannedTraining) -> PlannedTraining:
    steps = training.config.meta.steps
    values = {
        "checkpoint.every": max(1, round(steps * min(1.0, _CHECKPOINT_FLOPS / training.flops))),
        "checkpoint.best": False,
        "checkpoint.samples": False,
    }
    return replace(training, config=with_values(training.config, values))
