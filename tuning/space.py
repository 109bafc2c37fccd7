"""What a sweep may vary: for each dotted key of the configuration, which values to try."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Self

import optuna
from pydantic import Field, model_validator

from metatrain.base.section import Section

# Values by dotted key.
Values = dict[str, Any]


class Dimension(Section):
    """The values of one key; exactly one way of giving them."""

    loguniform: tuple[float, float] | None = Field(
        default=None, description="Between two positive numbers, each magnitude as likely."
    )
    uniform: tuple[float, float] | None = Field(default=None, description="Between two numbers.")
    integer: tuple[int, int] | None = Field(
        default=None, alias="int", description="Whole numbers, ends included."
    )
    choice: tuple[Any, ...] | None = Field(default=None, description="One of these.")
    same_as: str | None = Field(default=None, description="The value of another key of the space.")
    when: dict[str, Any] = Field(
        default={}, description="Only where another key has this value, or one of a list."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [said for way, said in _WAYS.items() if getattr(self, way) is not None]
        if len(given) != 1:
            said = f"gives {' and '.join(given)}" if given else "says not which values to try"
            raise ValueError(f"{said}; give one of {', '.join(_WAYS.values())}.")
        return self

    @model_validator(mode="after")
    def _ends_in_order(self) -> Self:
        ends = self.loguniform or self.uniform or self.integer
        if ends and ends[0] >= ends[1]:
            raise ValueError(f"goes from {ends[0]} to {ends[1]}; give the smaller end first.")
        if self.loguniform and self.loguniform[0] <= 0:
            raise ValueError("is loguniform from 0 or less; begin above 0, or use uniform.")
        if self.choice is not None and not self.choice:
            raise ValueError("is a choice of nothing; give values to choose from.")
        return self

    @property
    def log(self) -> bool:
        """Whether equal ratios, and not equal differences, are as likely."""
        return self.loguniform is not None

    def extremes(self) -> list[Any]:
        """The ends, or all that there is to choose from; what the configuration must take."""
        return list(self.loguniform or self.uniform or self.integer or self.choice or ())

    def points(self) -> list[Any] | None:
        """All values, where they can be counted."""
        if self.integer:
            return list(range(self.integer[0], self.integer[1] + 1))
        return list(self.choice) if self.choice else None

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether, with those other values, the key is varied at all."""
        return all(
            key in values and values[key] in (wanted if isinstance(wanted, list) else [wanted])
            for key, wanted in self.when.items()
        )

    def suggest(self, key: str, trial: optuna.Trial, values: Mapping[str, Any]) -> Any:
        """A value that Optuna suggests, given those of the keys before."""
        if self.same_as:
            return values[self.same_as]
        if self.integer:
            return trial.suggest_int(key, *self.integer)
        if self.choice:
            return self.choice[trial.suggest_categorical(key, list(range(len(self.choice))))]
        low, high = self.loguniform or self.uniform or (0.0, 0.0)
        return trial.suggest_float(key, low, high, log=self.log)

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The same for Optuna's record of a trial that has been."""
        if self.integer:
            return optuna.distributions.IntDistribution(*self.integer)
        if self.choice:
            return optuna.distributions.CategoricalDistribution(list(range(len(self.choice))))
        low, high = self.loguniform or self.uniform or (0.0, 0.0)
        return optuna.distributions.FloatDistribution(low, high, log=self.log)

    def to_optuna(self, value: Any) -> Any:
        """How Optuna's record has `value`: a choice by its number, since it may be anything."""
        return self.choice.index(value) if self.choice else value


# The ways of giving values, as the class has them and as a person writes them.
_WAYS = {way: way for way in ("loguniform", "uniform", "choice", "same_as")} | {"integer": "int"}

Space = Mapping[str, Dimension]


def suggest(space: Space, trial: optuna.Trial) -> Values:
    """Values for all keys whose conditions hold."""
    values: Values = {}
    for key, dimension in space.items():
        if dimension.holds(values):
            values[key] = dimension.suggest(key, trial, values)
    return values


def grid(space: Space) -> list[Values]:
    """Every combination once, of a space whose values can all be counted."""
    free = [(key, d.points() or [None]) for key, d in space.items() if not d.same_as]
    keys = [key for key, _ in free]
    combinations = product(*(points for _, points in free))
    found = [_with_conditions(space, dict(zip(keys, c, strict=True))) for c in combinations]
    return [values for i, values in enumerate(found) if values not in found[:i]]


def _with_conditions(space: Space, chosen: Values) -> Values:
    values: Values = {}
    for key, dimension in space.items():
        if dimension.holds(values):
            values[key] = values[dimension.same_as] if dimension.same_as else chosen[key]
    return values


def corners(space: Space) -> Iterator[tuple[str, Values]]:
    """For every extreme of every key, values that have it, with the key."""
    for key, dimension in space.items():
        for extreme in dimension.extremes():
            chosen = {k: d.extremes()[0] for k, d in space.items() if not d.same_as}
            yield key, _with_conditions(space, chosen | _needed(space, key) | {key: extreme})


def _needed(space: Space, key: str) -> Values:
    """Values of other keys with which `key` is varied."""
    needed: Values = {}
    for other, wanted in space[key].when.items():
        needed |= _needed(space, other)
        needed[other] = wanted[0] if isinstance(wanted, list) else wanted
    return needed


def placed(tree: Mapping[str, Any], values: Values, components: Sequence[str]) -> dict[str, Any]:
    """The values of a configuration, nested, with others at dotted keys.

    Args:
        tree: what was given of the configuration.
        values: by dotted key.
        components: sections whose `name` says which other keys they have; of another name, those
            of the old one go.
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
