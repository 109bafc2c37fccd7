"""The space of a sweep: for each dotted key of the configuration, the values to try."""

import copy
from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import Any, Self

import optuna
from pydantic import Field, model_validator

from metatrain.base.section import Section

# Values by dotted key.
Values = dict[str, Any]


class Dimension(Section):
    """The values of one key, by exactly one kind of range."""

    loguniform: tuple[float, float] | None = Field(
        default=None, description="Between two positive numbers, uniform in the logarithm."
    )
    uniform: tuple[float, float] | None = Field(default=None, description="Between two numbers.")
    integer: tuple[int, int] | None = Field(
        default=None, alias="int", description="Integers between two numbers, both included."
    )
    choice: tuple[Any, ...] | None = Field(default=None, description="One of these values.")
    same_as: str | None = Field(default=None, description="The value of another key of the space.")
    when: dict[str, Any] = Field(
        default={}, description="Only where another key has this value, or one of a list."
    )

    @model_validator(mode="after")
    def _check_one_range(self) -> Self:
        ranges = [name for field, name in _RANGES.items() if getattr(self, field) is not None]
        if len(ranges) != 1:
            problem = f"gives {' and '.join(ranges)}" if ranges else "gives no values to try"
            raise ValueError(f"{problem}; give one of {', '.join(_RANGES.values())}.")
        return self

    @model_validator(mode="after")
    def _check_ends(self) -> Self:
        ends = self.loguniform or self.uniform or self.integer
        if ends and ends[0] >= ends[1]:
            raise ValueError(f"is from {ends[0]} to {ends[1]}; give the smaller end first.")
        if self.loguniform and self.loguniform[0] <= 0:
            raise ValueError("is loguniform from 0 or less; start above 0, or use uniform.")
        if self.choice is not None and not self.choice:
            raise ValueError("is an empty choice; give values to choose from.")
        return self

    @property
    def log(self) -> bool:
        """Whether the value is uniform in the logarithm."""
        return self.loguniform is not None

    def extremes(self) -> list[Any]:
        """List the ends of the range, or all values of a choice."""
        return list(self.loguniform or self.uniform or self.integer or self.choice or ())

    def all_values(self) -> list[Any] | None:
        """List all values; None where there is no end of them."""
        if self.integer:
            return list(range(self.integer[0], self.integer[1] + 1))
        return list(self.choice) if self.choice else None

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Tell whether the conditions on other keys hold for `values`."""
        return all(
            key in values and values[key] in (wanted if isinstance(wanted, list) else [wanted])
            for key, wanted in self.when.items()
        )

    def suggest(self, key: str, trial: optuna.Trial, values: Mapping[str, Any]) -> Any:
        """Let Optuna suggest a value, given the values of the keys before."""
        if self.same_as:
            return values[self.same_as]
        if self.integer:
            return trial.suggest_int(key, *self.integer)
        if self.choice:
            return self.choice[trial.suggest_categorical(key, list(range(len(self.choice))))]
        low, high = self.loguniform or self.uniform or (0.0, 0.0)
        return trial.suggest_float(key, low, high, log=self.log)

    def optuna_distribution(self) -> optuna.distributions.BaseDistribution:
        """Return the distribution of `suggest`, for trials that are over."""
        if self.integer:
            return optuna.distributions.IntDistribution(*self.integer)
        if self.choice:
            return optuna.distributions.CategoricalDistribution(list(range(len(self.choice))))
        low, high = self.loguniform or self.uniform or (0.0, 0.0)
        return optuna.distributions.FloatDistribution(low, high, log=self.log)

    def optuna_value(self, value: Any) -> Any:
        """Return Optuna's value for `value`: of a choice its number, since it may be anything."""
        return self.choice.index(value) if self.choice else value


# The kinds of ranges: their fields, and their keys in a sweep's file.
_RANGES = {name: name for name in ("loguniform", "uniform", "choice", "same_as")}
_RANGES |= {"integer": "int"}

Space = Mapping[str, Dimension]


def suggest(space: Space, trial: optuna.Trial) -> Values:
    """Suggest values for all keys whose conditions hold."""
    values: Values = {}
    for key, dimension in space.items():
        if dimension.applies(values):
            values[key] = dimension.suggest(key, trial, values)
    return values


def grid(space: Space) -> list[Values]:
    """List every combination once, of a space whose values are finitely many."""
    free = [(key, d.all_values() or [None]) for key, d in space.items() if not d.same_as]
    keys = [key for key, _ in free]
    combinations = [
        _with_conditions(space, dict(zip(keys, values, strict=True)))
        for values in product(*(values for _, values in free))
    ]
    return [values for i, values in enumerate(combinations) if values not in combinations[:i]]


def _with_conditions(space: Space, chosen: Values) -> Values:
    """Keep the values whose conditions hold, and copy those of `same_as`."""
    values: Values = {}
    for key, dimension in space.items():
        if dimension.applies(values):
            values[key] = values[dimension.same_as] if dimension.same_as else chosen[key]
    return values


def corners(space: Space) -> Iterator[tuple[str, Values]]:
    """Yield, for every extreme of every key, the key and values that contain the extreme."""
    for key, dimension in space.items():
        for extreme in dimension.extremes():
            chosen = {k: d.extremes()[0] for k, d in space.items() if not d.same_as}
            yield key, _with_conditions(space, chosen | _required(space, key) | {key: extreme})


def _required(space: Space, key: str) -> Values:
    """Return values of other keys that meet the conditions of `key`."""
    required: Values = {}
    for other, wanted in space[key].when.items():
        required |= _required(space, other)
        required[other] = wanted[0] if isinstance(wanted, list) else wanted
    return required


def with_values(
    tree: Mapping[str, Any], values: Values, components: Collection[str] = ()
) -> dict[str, Any]:
    """Set values in a nested configuration; the tree itself stays as it is.

    Args:
        tree: the configuration.
        values: the values by dotted key.
        components: the sections whose `name` decides which other keys they have: a new name
            removes those of the old one.
    """
    tree = copy.deepcopy(dict(tree))
    for key, value in values.items():
        *path, leaf = key.split(".")
        section = tree
        for name in path:
            section = section.setdefault(name, {})
        if leaf == "name" and ".".join(path) in components and section.get("name") != value:
            section.clear()
        section[leaf] = value
    return tree
