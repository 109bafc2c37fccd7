"""A sweep's file: what to vary, what to vary it of, how to judge, and when to stop."""

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
    parse_config,
)
from metatrain.metrics.metric import VALIDATION_METRICS
from tuning.space import Dimension, Values, corners, placed

# What decides where and how a trial runs, and not what it computes; or how it is judged, the same
# for all.
_NOT_VARIED = ("run.", "cluster.", "checkpoint.", "validation.", "data.path", "meta.steps")

# How many tasks judge a trial where the base does not say.
_TASKS = 16


class BudgetConfig(Section):
    """When a sweep is over: at whichever limit it reaches first."""

    trials: int = Field(default=20, ge=1, description="Trials in all.")
    hours: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Wall time, that of interrupted starts included."
    )
    gpu_hours: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Time of trials, times the GPUs that each takes."
    )


class SchedulerConfig(Section):
    """Which trials are worth going on with; all are looked at equally often."""

    name: Literal["asha", "median", "pbt", "none"] = Field(
        default="asha",
        description="asha stops all but the best at each rung, median those below the median, pbt "
        "has the worst go on from the best with another inner.lr.",
    )
    looks: int = Field(default=4, ge=1, description="Looks at a trial, the last at its end.")
    keep: int = Field(default=2, ge=2, description="Of so many trials, asha lets one go on.")


class LoggersConfig(Section):
    """Where else trials are told of."""

    mlflow: Location | None = Field(
        default=None, description="Tracking URI, such as file:mlruns; null is none."
    )
    wandb: str | None = Field(default=None, description="Project at W&B; null is none.")


class SweepConfig(Section):
    """Everything that a sweep depends on."""

    name: StableName = Field(
        default="sweep", description="Stable name; the same name again goes on with the sweep."
    )
    dir: Location = Field(
        default="sweeps", description="Folder of all sweeps: a path or any fsspec URL."
    )
    base: str | None = Field(
        default=None, description="The configuration to vary, a file; null is the defaults."
    )
    overrides: dict[str, Any] = Field(
        default={}, description="What is otherwise in it, by dotted key."
    )
    space: dict[str, Dimension] = Field(min_length=1, description="What to vary, by dotted key.")
    metric: Literal[*VALIDATION_METRICS] = Field(  # pyright: ignore[reportInvalidTypeForm]
        default="own_task",
        description="The score of unseen tasks, at the best k, that ranks trials.",
    )
    searcher: Literal["tpe", "random", "grid"] = Field(
        default="tpe", description="Where to look next: Optuna's TPE, anywhere, or everywhere."
    )
    scheduler: SchedulerConfig = SchedulerConfig()
    budget: BudgetConfig = BudgetConfig()
    max_failures: int = Field(
        default=2, ge=0, description="Times that a trial which crashed goes on from where it was."
    )
    loggers: LoggersConfig = LoggersConfig()
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seeds the searcher.")

    @property
    def url(self) -> str:
        """Where this sweep lives."""
        return f"{self.dir.rstrip('/')}/{self.name}"

    @model_validator(mode="after")
    def _keys_come_in_order(self) -> Self:
        before: list[str] = []
        for key, dimension in self.space.items():
            for other in [*dimension.when, *filter(None, [dimension.same_as])]:
                if other not in before:
                    raise ValueError(
                        f"space.{key} refers to {other}, which is not in the space before it"
                        f"{did_you_mean(other, before) or '; write that first.'}"
                    )
            before.append(key)
        return self

    @model_validator(mode="after")
    def _varied_is_what_is_computed(self) -> Self:
        for key in self.space:
            if key.startswith(_NOT_VARIED):
                raise ValueError(
                    f"space.{key} cannot be varied, for it is the same for all trials; set it "
                    f"under overrides."
                )
        return self

    @model_validator(mode="after")
    def _searcher_suits_the_space(self) -> Self:
        endless = [k for k, d in self.space.items() if not d.same_as and d.points() is None]
        if self.searcher == "grid" and endless:
            raise ValueError(
                f"searcher is grid, and space.{endless[0]} has no end of values; give it a choice, "
                f"or take searcher tpe or random."
            )
        if self.scheduler.name == "pbt":
            rate = self.space.get("inner.lr")
            if rate is None or not (rate.loguniform or rate.uniform) or rate.when:
                raise ValueError(
                    "scheduler.name is pbt, which changes inner.lr on the way; give space.inner.lr "
                    "as loguniform or uniform, without a condition."
                )
        return self


class Sweep:
    """A sweep's settings with the base that they vary.

    Args:
        settings: from the sweep's file.
        base: what was given of the base configuration, plain and nested.

    Attributes:
        asked: the base configuration.
        base: the same as trials have it, validated and saved at every look.

    Raises:
        UserError: when some extreme of the space is not a configuration.
    """

    def __init__(self, settings: SweepConfig, base: Mapping[str, Any]) -> None:
        self.settings, self._base = settings, base
        # First, so that its own mistakes are not laid to the space.
        self.asked = parse_config(base)
        self.base = self.config({})
        for key, values in corners(settings.space):
            try:
                self.config(values)
            except UserError as error:
                said = "; ".join(f"{k}={json.dumps(v, default=str)}" for k, v in values.items())
                sentence = str(error).partition("\n")[2].strip() or str(error)
                raise UserError(f"space.{key} cannot be searched ({said}): {sentence}") from error

    def config(self, values: Values, name: str = "trial") -> Config:
        """The configuration of a trial with these values."""
        tree = placed(self._base, values, list(COMPONENTS))
        run = {"run.name": name, "run.dir": f"{self.settings.url}/runs"}
        config = parse_config(placed(tree, run, []))
        validation = config.validation.model_copy(
            update={
                "tasks": config.validation.tasks or _TASKS,
                "network": config.validation.network or f"{self.settings.url}/metric.safetensors",
            }
        )
        looks = self.settings.scheduler.looks
        every = -(-config.meta.steps // looks)
        # Others may go on from a checkpoint of long ago.
        keep = looks + 1 if self.settings.scheduler.name == "pbt" else config.checkpoint.keep
        checkpoint = config.checkpoint.model_copy(
            update={"every": every, "samples": False, "keep": keep}
        )
        # Tune starts a trial again that lost a worker; Train would too one that cannot succeed.
        cluster = config.cluster.model_copy(update={"max_failures": 0})
        parts = {"validation": validation, "checkpoint": checkpoint, "cluster": cluster}
        return config.model_copy(update=parts)


def load_sweep(path: str, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep's file, with overrides of it or of its base.

    Raises:
        UserError: naming the key, its value and what is allowed, or the file that cannot be read.
    """
    own, others = divided(overrides)
    settings = _parse(path, load_values(path, own))
    base = load_values(settings.base) if settings.base else {}
    base = placed(base, dict(_leaves(settings.overrides)), list(COMPONENTS))
    given = load_values(None, others)
    return Sweep(settings, placed(base, dict(_leaves(given)), list(COMPONENTS)))


def divided(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides of the sweep's own keys, and of its base.

    `seed` is that of the searcher; the base's is set under `overrides`.
    """
    own = [o for o in overrides if re.split("[.=]", o)[0] in SweepConfig.model_fields]
    return own, [o for o in overrides if o not in own]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        nested = isinstance(value, Mapping)
        found += _leaves(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return found


def _parse(path: str, values: Any) -> SweepConfig:
    try:
        return SweepConfig.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(detail) for detail in error.errors()]
        raise UserError("\n  ".join([f"{path} is not a sweep:", *lines])) from error


def _sentence(detail: ErrorDetails) -> str:
    *parents, leaf = [str(part) for part in detail["loc"]] or [""]
    key = ".".join([*parents, leaf])
    if detail["type"] == "extra_forbidden":
        return f"there is no key '{key}'{did_you_mean(leaf, _siblings(parents))}"
    if detail["type"] == "missing":
        example = "{inner.lr: {loguniform: [1e-4, 1e-2]}}"
        return f"{key} is missing; say what to vary, as in {example}."
    if detail["type"] == "value_error":
        within = f"{key} " if key else ""
        return within + detail["msg"].removeprefix("Value error, ")
    allowed = detail["msg"].replace("Input should be", "allowed is")
    return f"{key} is {json.dumps(detail['input'], default=str)}; {allowed}."


def _siblings(parents: Sequence[str]) -> list[str]:
    """The keys that a section of the sweep's file may have."""
    if parents[:1] == ["space"]:
        return [f.alias or name for name, f in Dimension.model_fields.items()]
    section: Any = SweepConfig
    for name in parents:
        section = section.model_fields[name].annotation
    return list(section.model_fields)
