"""Intervals of scores, and tests of differences between systems, by the bootstrap over tasks.

Tasks are the random sample: images of one task are alike, and all seeds have the same tasks. So
whole tasks are resampled, with all their images and seeds, and every score is a function of the
number of times that each task was sampled.

An interval and the p beside it are one construction, the studentised bootstrap (Efron and
Tibshirani 1993, "An Introduction to the Bootstrap", section 12.5): the interval excludes 0 exactly
where p is below the level. Percentiles are too narrow where tasks are few or scores are skewed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

# Maps the number of times that each task counts, [B, T], to scores [B].
Statistic = Callable[[Tensor], Tensor]

RESAMPLES = 1000
# A difference is significant where its p is below this level.
SIGNIFICANT = 0.05
# The least standard error of a resample, as a share of the score's. Where only few tasks differ
# from the others, a resample without them has nearly none, and the interval would have no end.
_LEAST_ERROR = 0.25


@dataclass(frozen=True)
class Estimate:
    """A score with its 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The score of one system minus that of another on the same episodes.

    Attributes:
        value: the difference.
        low: lower end of its 95% interval.
        high: upper end of its 95% interval.
        p: the probability of so large a difference between equal systems.
    """

    value: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether p is below the level `SIGNIFICANT`."""
        return self.p < SIGNIFICANT


@dataclass(frozen=True)
class Score:
    """A score of all tasks, and what its uncertainty follows from.

    All systems have the same resamples of the same tasks, so any two scores are paired.

    Attributes:
        value: the score.
        resampled: the score of every resample of the tasks, [RESAMPLES].
        influence: the influence of each task on the score by the jackknife, [T]: by how much the
            score exceeds that without the task, times T - 1.
    """

    value: float
    resampled: Tensor
    influence: Tensor

    @property
    def estimate(self) -> Estimate:
        """The score with its interval."""
        return Estimate(self.value, *self._interval())

    def minus(self, other: "Score") -> Difference:
        """Return the difference to `other`, with its paired interval and p."""
        difference = self.less(other)
        return Difference(difference.value, *difference._interval(), difference._p())

    def less(self, other: "Score") -> "Score":
        """Return the score that is this one minus `other`."""
        return Score(
            self.value - other.value,
            self.resampled - other.resampled,
            self.influence - other.influence,
        )

    def over(self, other: "Score") -> "Score":
        """Return the score that is this one divided by `other`."""
        ratio = self.value / other.value
        influence = (self.influence - ratio * other.influence) / other.value
        return Score(ratio, self.resampled / other.resampled, influence)

    @property
    def _error(self) -> float:
        """The standard error, by the jackknife."""
        tasks = len(self.influence)
        return math.sqrt(self.influence.square().sum().item() / (tasks * max(tasks - 1, 1)))

    def _studentised(self) -> Tensor:
        """Return each resample's deviation in its own standard errors, in ascending order.

        Deviations are from their mean and not from the score: a pooled distance is biased upward in
        resamples, which have fewer distinct tasks (section 10.2). The error of a resample is that
        of its tasks' influences, which is exact for means.
        """
        tasks = len(self.influence)
        weights = _resamples(tasks)
        mean = weights @ self.influence / tasks
        variance = (weights @ self.influence.square() / tasks - mean.square()) / (tasks - 1)
        errors = variance.clamp(min=0).sqrt().clamp(min=_LEAST_ERROR * self._error)
        return ((self.resampled - self.resampled.mean()) / errors).sort().values

    def _interval(self) -> tuple[float, float]:
        if self._error == 0:  # all tasks agree, or there is only one
            return self.value, self.value
        if math.isnan(self._error):
            return math.nan, math.nan
        studentised = self._studentised()
        # The most resamples beyond a difference that is significant all the same; see `_p`.
        beyond = math.ceil(SIGNIFICANT / 2 * (len(studentised) + 1) - 1) - 1
        low, high = studentised[-1 - beyond].item(), studentised[beyond].item()
        return self.value - low * self._error, self.value - high * self._error

    def _p(self) -> float:
        """Return the two-sided p of the score's being 0, with the observed one among resamples."""
        if self._error == 0:
            return 0.0 if self.value and len(self.influence) > 1 else 1.0
        if math.isnan(self._error):
            return math.nan
        studentised, observed = self._studentised(), self.value / self._error
        beyond = min((studentised >= observed).sum().item(), (studentised <= observed).sum().item())
        return min(2 * (1 + beyond) / (1 + len(studentised)), 1.0)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust the p of several tests of one page, so that all hold together.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure": with as many tests as
    there are, the chance that any p is below a level although nothing differs is at most that
    level.
    """
    adjusted, least = [math.nan] * len(ps), 0.0
    tested = sorted((p, i) for i, p in enumerate(ps) if not math.isnan(p))
    for rank, (p, i) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = least
    return adjusted


def mean_of(values: Tensor) -> Statistic:
    """Return the statistic that is the mean of the tasks' values [T]."""
    values = values.double()
    return lambda weights: weights.double() @ values / weights.double().sum(dim=1)


def mean_of_pairs(pairs: Tensor) -> Statistic:
    """Return the statistic that is the mean of the values [T, T] of pairs of tasks.

    Such values are the terms of `kid_of_pairs`.
    """

    def statistic(weights: Tensor) -> Tensor:
        shares = weights.double() / weights.double().sum(dim=1, keepdim=True)
        return torch.einsum("bt,ts,bs->b", shares, pairs.double(), shares)

    return statistic


def mean_over(statistics: Sequence[Statistic]) -> Statistic:
    """Return the statistic that is the mean of several ones of the same tasks, such as seeds'."""
    return lambda weights: torch.stack([s(weights) for s in statistics]).mean(dim=0)


def score(statistic: Statistic, tasks: int) -> Score:
    """Compute the score of `tasks` tasks, of their resamples, and each task's influence."""
    value = statistic(torch.ones(1, tasks).double()).item()
    if tasks == 1:
        return Score(value, statistic(_resamples(1)), torch.zeros(1).double())
    without = statistic(1 - torch.eye(tasks).double())
    influence = (tasks - 1) * (without.mean() - without)
    return Score(value, statistic(_resamples(tasks)), influence)


def resamples(tasks: int, count: int = RESAMPLES, seed: int = 0) -> Tensor:
    """Count how often each of `count` resamples has each task, [count, tasks] in float64."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    index = torch.from_numpy(generator.integers(tasks, size=(count, tasks)))
    return (
        torch.zeros(count, tasks).double().scatter_add_(1, index, torch.ones_like(index).double())
    )


@cache
def _resamples(tasks: int) -> Tensor:
    return resamples(tasks)
