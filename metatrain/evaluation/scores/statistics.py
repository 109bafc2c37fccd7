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


@dataclass(frozen=True)
class Score:
    """A score of all tasks, and of every resample of them, [RESAMPLES].

    The resamples are the same for whoever is scored on the same tasks, so any two scores are
    paired.
    """

    value: float
    resampled: Tensor

    @property
    def estimate(self) -> Estimate:
        """The score with its interval.

        Percentiles of the resampled scores (Efron and Tibshirani 1993, "An Introduction to the
        Bootstrap", chapter 13), moved so that their mean is the score: a pooled distance is larger
        of resampled tasks, which are fewer (their section 10.2).
        """
        return Estimate(self.value, *_interval(self.value + self._moved()))

    def minus(self, other: "Score") -> Difference:
        """The difference to `other`, by the paired bootstrap.

        p is the two-sided share of resamples whose difference lies as far from the mean as the
        observed one from 0 (their section 16.4), the observed one counted among them.
        """
        found = Score(self.value - other.value, self.resampled - other.resampled)
        moved = found._moved()
        p = (1 + int((moved.abs() >= abs(found.value)).sum())) / (1 + len(moved))
        return Difference(found.value, *_interval(found.value + moved), p)

    def _moved(self) -> Tensor:
        return self.resampled - self.resampled.mean()


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


def score(statistic: Statistic, tasks: int) -> Score:
    """The score of `tasks` tasks and of their resamples."""
    value = statistic(torch.ones(1, tasks).double()).item()
    return Score(value, statistic(resamples(tasks)))


def resamples(tasks: int, count: int = RESAMPLES, seed: int = 0) -> Tensor:
    """How often each task is drawn in each of `count` resamples, [count, tasks] in float64."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    drawn = torch.from_numpy(generator.integers(tasks, size=(count, tasks)))
    return (
        torch.zeros(count, tasks).double().scatter_add_(1, drawn, torch.ones_like(drawn).double())
    )


def _interval(values: Tensor) -> tuple[float, float]:
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high
