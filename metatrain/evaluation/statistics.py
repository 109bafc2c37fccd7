"""How sure a score is, and whether one system differs from another: by resampling tasks.

Tasks are what was drawn at random; images of one task are alike, and seeds see the same tasks. So
whole tasks are drawn again, with all their images and seeds, and every score is a function of how
often each task was drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# From how often each task counts [B, T] to the score [B].
Statistic = Callable[[Tensor], Tensor]

RESAMPLES = 1000
# Below this probability a difference is called significant.
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Estimate:
    """A score, with the interval that holds the true one with 95% confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The score of one system minus that of another on the same episodes.

    Attributes:
        value: the difference.
        low: lower end of its 95% interval.
        high: upper end.
        p: how often chance alone makes a difference so large.
    """

    value: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether it is more than chance makes of nothing."""
        return self.p < SIGNIFICANT


def mean_of(values: Tensor) -> Statistic:
    """The mean of what each task got, [T]."""
    values = values.double()
    return lambda weights: weights.double() @ values / weights.double().sum(dim=1)


def mean_of_pairs(pairs: Tensor) -> Statistic:
    """The mean over pairs of tasks of what each pair got, [T, T], as `kid_of_pairs` gives it."""

    def statistic(weights: Tensor) -> Tensor:
        shares = weights.double() / weights.double().sum(dim=1, keepdim=True)
        return torch.einsum("bt,ts,bs->b", shares, pairs.double(), shares)

    return statistic


def mean_over(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of several scores of the same tasks, as those of several seeds."""
    return lambda weights: torch.stack([s(weights) for s in statistics]).mean(dim=0)


def estimate(statistic: Statistic, tasks: int, seed: int = 0) -> Estimate:
    """The score of all tasks, and its 95% interval by the bootstrap over tasks.

    Percentiles of the resampled scores (Efron and Tibshirani 1993, "An Introduction to the
    Bootstrap", chapter 13), moved so that their mean is the score: that of pooled distances is
    too large, as resampled tasks are fewer (their section 10.2).

    Args:
        statistic: the score.
        tasks: how many there are.
        seed: of the resamples; the same for all systems, so that they can be paired.
    """
    value, moved = _resampled(statistic, tasks, seed)
    return Estimate(value, *_interval(value + moved))


def difference(a: Statistic, b: Statistic, tasks: int, seed: int = 0) -> Difference:
    """The score `a` minus the score `b`, by the paired bootstrap: both see the same tasks.

    p is the two-sided share of resamples that lie as far from their own mean as the difference
    from 0 (their section 16.4), the observed one counted among them.
    """
    value, moved = _resampled(lambda weights: a(weights) - b(weights), tasks, seed)
    beyond = int((moved.abs() >= abs(value)).sum())
    p = (1 + beyond) / (1 + len(moved))
    return Difference(value, *_interval(value + moved), p)


def resamples(tasks: int, count: int = RESAMPLES, seed: int = 0) -> Tensor:
    """How often each task is drawn in each of `count` resamples, [count, tasks] in float64."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    drawn = torch.from_numpy(generator.integers(tasks, size=(count, tasks)))
    return (
        torch.zeros(count, tasks).double().scatter_add_(1, drawn, torch.ones_like(drawn).double())
    )


def _resampled(statistic: Statistic, tasks: int, seed: int) -> tuple[float, Tensor]:
    """The score of all tasks, and how far each resample's lies from the mean of those."""
    value = statistic(torch.ones(1, tasks).double()).item()
    found = statistic(resamples(tasks, seed=seed))
    return value, found - found.mean()


def _interval(values: Tensor) -> tuple[float, float]:
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high
