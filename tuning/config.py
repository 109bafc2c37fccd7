"""The file of a sweep: the base configuration, the space, the metric, and the budget."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from metatrain.base.errors import UserError, did_you_mean
from metatrain.base.section import Section
from metatrain.config import (
    COMPONENTS,
    Config,
    Location,
    StableName,
    load_values,
    override_values,
    parse_config,
    read_yaml,
)
from metatrain.config.layers import nested, overlaid, united, without_brought_scope
from metatrain.config.sentences import by_value, refusal
from metatrain.metrics.metric import VALIDATION_METRICS
from tuning.space import Dimension, Values, corners, with_values

# Keys of where and how a trial runs, instead of what it computes, and of its validation.
_NOT_VARIED = ("run.", "cluster.", "checkpoint.", "validation.", "data.path", "meta.steps")

# The number of validation tasks where the base does not set it.
_VALIDATION_TASKS = 16


class BudgetConfig(Section):
    """The limits of a sweep, which ends at the first that it reaches."""

    trials: int = Field(default=20, ge=1, description="The number of trials.")
    hours: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Wall time, over all starts of the sweep."
    )
    gpu_hours: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The time of all trials, times the GPUs of each."
    )


class SchedulerConfig(Section):
    """The early stopping of trials; all are validated at the same outer steps."""

    name: Literal["asha", "median", "pbt", "none"] = Field(
        default="asha",
        description="asha stops all but the best trials at each rung, median those below the "
        "median; pbt continues the worst trials from the best ones with another inner.lr.",
    )
    looks: int = Field(default=4, ge=1, description="Validations of a trial, the last at its end.")
    keep: int = Field(
        default=2, ge=2, description="asha continues one of this many trials at each rung."
    )


class LoggersConfig(Section):
    """Experiment trackers that trials are logged to."""

    mlflow: Location | None = Field(
        default=None, description="Tracking URI, such as file:mlruns; null: none."
    )
    wandb: str | None = Field(default=None, description="Project at W&B; null: none.")


class SweepConfig(Section):
    """The settings of a sweep."""

    name: StableName = Field(
        default="sweep", description="Stable name; the same name resumes the sweep."
    )
    dir: Location = Field(
        default="sweeps", description="Folder of all sweeps: a path or any fsspec URL."
    )
    base: Location | None = Field(
        default=None, description="File of the configuration to vary; null: the defaults."
    )
    overrides: dict[str, Any] = Field(default={}, description="Overrides of it, by dotted key.")
    space: dict[str, Dimension] = Field(
        min_length=1, description="The values to try, by dotted key."
    )
    metric: Literal[*VALIDATION_METRICS] = Field(  # pyright: ignore[reportInvalidTypeForm]
        default="own_task",
        description="The score of unseen tasks, at the best k, that ranks trials.",
    )
    searcher: Literal["tpe", "random", "grid"] = Field(
        default="tpe",
        description="The choice of values: Optuna's TPE, random, or every combination.",
    )
    scheduler: SchedulerConfig = SchedulerConfig()
    budget: BudgetConfig = BudgetConfig()
    max_failures: int = Field(default=2, ge=0, description="How often a crashed trial is resumed.")
    loggers: LoggersConfig = LoggersConfig()
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the searcher.")

    @property
    def url(self) -> str:
        """The folder of this sweep."""
        return f"{self.dir.rstrip('/')}/{self.name}"

    @model_validator(mode="after")
    def _check_order_of_keys(self) -> Self:
        earlier: list[str] = []
        for key, dimension in self.space.items():
            for other in [*dimension.when, *filter(None, [dimension.same_as])]:
                if other not in earlier:
                    raise ValueError(
                        f"space.{key} refers to {other}, which is not in the space before it"
                        f"{did_you_mean(other, earlier) or '; write that first.'}"
                    )
            earlier.append(key)
        return self

    @model_validator(mode="after")
    def _check_varied_keys(self) -> Self:
        for key in self.space:
            if key.startswith(_NOT_VARIED):
                raise ValueError(
                    f"space.{key} cannot be varied, since it is the same for all trials; set it "
                    f"under overrides."
                )
        return self

    @model_validator(mode="after")
    def _check_searcher(self) -> Self:
        infinite = [k for k, d in self.space.items() if not d.same_as and d.all_values() is None]
        if self.searcher == "grid" and infinite:
            raise ValueError(
                f"searcher is grid, and space.{infinite[0]} has infinitely many values; give it a "
                f"choice, or set searcher to tpe or random."
            )
        if self.scheduler.name == "pbt":
            rate = self.space.get("inner.lr")
            if rate is None or not (rate.loguniform or rate.uniform) or rate.when:
                raise ValueError(
                    "scheduler.name is pbt, which changes inner.lr during training; give "
                    "space.inner.lr as loguniform or uniform, without a condition."
                )
        return self


class Sweep:
    """A sweep's settings, with the base configuration of its trials.

    Args:
        settings: the settings of the sweep's file.
        values: the values of the base configuration, plain and nested.

    Attributes:
        original: the base configuration as its file has it.
        base: the base configuration as trials have it, with a validation and a checkpoint at each
            outer step where trials are compared.

    Raises:
        UserError: when the base is not valid, or with an extreme of the space it is not.
    """

    def __init__(self, settings: SweepConfig, values: Mapping[str, Any]) -> None:
        self.settings, self._values = settings, values
        # First, so that a mistake in the base is not reported as one of the space.
        self.original = parse_config(values)
        self.base = self.config({})
        for key, corner in corners(settings.space):
            try:
                self.config(corner)
            except UserError as error:
                pairs = "; ".join(f"{k}={json.dumps(v, default=str)}" for k, v in corner.items())
                sentence = str(error).partition("\n")[2].strip() or str(error)
                raise UserError(f"space.{key} cannot be searched ({pairs}): {sentence}") from error

    def config(self, values: Values, name: str = "trial") -> Config:
        """Return the configuration of the trial `name` with these values of the space."""
        run = {"run.name": name, "run.dir": f"{self.settings.url}/runs"}
        base = without_brought_scope(self._values, nested(values))
        config = parse_config(with_values(with_values(base, values, COMPONENTS), run))
        validation = config.validation.model_copy(
            update={
                "tasks": config.validation.tasks or _VALIDATION_TASKS,
                "network": config.validation.network or f"{self.settings.url}/metric.safetensors",
            }
        )
        looks = self.settings.scheduler.looks
        every = -(-config.meta.steps // looks)
        # PBT's trials may continue from any checkpoint of another.
        keep = looks + 1 if self.settings.scheduler.name == "pbt" else config.checkpoint.keep
        checkpoint = config.checkpoint.model_copy(
            update={"every": every, "samples": False, "keep": keep}
        )
        # Tune restarts a trial that lost a worker; Train would also restart one that cannot work.
        cluster = config.cluster.model_copy(update={"max_failures": 0})
        parts = {"validation": validation, "checkpoint": checkpoint, "cluster": cluster}
        return config.model_copy(update=parts)


def load_sweep(path: str | None, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep's file, with overrides of the sweep or of its base.

    Raises:
        UserError: with the key, its value and the allowed ones, or the file that cannot be read.
    """
    if path is None:
        raise UserError("a sweep has no defaults; name its YAML file.")
    sweep_overrides, base_overrides = split_overrides(overrides)
    settings = _parse(path, sweep_values(path, sweep_overrides))
    base = load_values(settings.base)
    for changes in (nested(settings.overrides), override_values(base_overrides)):
        base = overlaid(base, changes)
    return Sweep(settings, base)


def sweep_values(path: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the plain values of a sweep's file with overrides of the sweep.

    The keys under `space` and `overrides` are dotted keys of a configuration, and stay so.

    Raises:
        UserError: when they cannot be read.
    """
    return united(nested(read_yaml(path), depth=1), override_values(overrides))


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split overrides into those of the sweep and those of its base.

    `seed` is the seed of the searcher; that of the base is set under `overrides`.
    """
    of_sweep = [o for o in overrides if re.split("[.=]", o)[0] in SweepConfig.model_fields]
    return of_sweep, [o for o in overrides if o not in of_sweep]


def _parse(path: str, values: Any) -> SweepConfig:
    try:
        return SweepConfig.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(place, details) for place, details in by_value(error.errors())]
        raise UserError("\n  ".join([f"{path} is not a sweep:", *lines])) from error


def _sentence(place: Sequence[str], details: Sequence[ErrorDetails]) -> str:
    *parents, leaf = place or [""]
    key = ".".join([*parents, leaf])
    if details[0]["type"] == "missing":
        example = "{inner.lr: {loguniform: [1e-4, 1e-2]}}"
        return f"{key} is missing; give the values to try, as in {example}."
    prefix = f"{key} " if key else ""
    return refusal(details, key, lambda: did_you_mean(leaf, _siblings(parents)), prefix)


def _siblings(parents: Sequence[str]) -> list[str]:
    """List the keys that a section of the sweep's file may have."""
    if parents[:1] == ["space"]:
        return [f.alias or name for name, f in Dimension.model_fields.items()]
    section: Any = SweepConfig
    for name in parents:
        section = section.model_fields[name].annotation
    return list(section.model_fields)
