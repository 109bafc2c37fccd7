"""Intervals of scores, and tests of differences between systems, by the bootstrap over tasks.

Tasks are the random sample: images of one task are alike, and all seeds have the same tasks. So
whole tasks are resampled, with all their images and seeds, and every score is a function of the
number of times that each task was sampled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Maps the number of times that each task counts, [B, T], to scores [B].
Statistic = Callable[[Tensor], Tensor]

RESAMPLES = 1000
# A difference is significant where its p is below this level.
SIGNIFICANT = 0.05


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
    """A score of all tasks, and of every resample of them, [RESAMPLES].

    All systems have the same resamples of the same tasks, so any two scores are paired.
    """

    value: float
    resampled: Tensor

    @property
    def estimate(self) -> Estimate:
        """The score with its interval.

        Percentiles of the resampled scores (Efron and Tibshirani 1993, "An Introduction to the
        Bootstrap", chapter 13), shifted so that their mean is the score: a pooled distance is
        biased upward in resamples, which have fewer distinct tasks (their section 10.2).
        """
        return Estimate(self.value, *_interval(self.value + self._deviations()))

    def minus(self, other: "Score") -> Difference:
        """Return the difference to `other`, by the paired bootstrap.

        p is the two-sided share of resamples whose difference lies as far from the mean as the
        observed one from 0 (their section 16.4), with the observed one among them.
        """
        difference = Score(self.value - other.value, self.resampled - other.resampled)
        value, deviations = difference.value, difference._deviations()
        p = (1 + int((deviations.abs() >= abs(value)).sum())) / (1 + len(deviations))
        return Difference(value, *_interval(value + deviations), p)

    def _deviations(self) -> Tensor:
        """Return the resampled scores less their mean."""
        return self.resampled - self.resampled.mean()


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
    """Compute the score of `tasks` tasks and of their resamples."""
    value = statistic(torch.ones(1, tasks).double()).item()
    return Score(value, statistic(resamples(tasks)))


def resamples(tasks: int, count: int = RESAMPLES, seed: int = 0) -> Tensor:
    """Count how often each of `count` resamples has each task, [count, tasks] in float64."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    index = torch.from_numpy(generator.integers(tasks, size=(count, tasks)))
    return (
        torch.zeros(count, tasks).double().scatter_add_(1, index, torch.ones_like(index).double())
    )


def _interval(values: Tensor) -> tuple[float, float]:
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high
