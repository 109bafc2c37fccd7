"""Forecasts: the own-task share to expect of a support, by regression on unseen tasks."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# The share of tasks whose quality is in the interval.
CONFIDENCE = 0.9

# The penalty on squared slopes, relative to the variance of the regressors.
_RIDGE = 0.1


@dataclass(frozen=True)
class Expected:
    """An expected own-task share, with the interval that holds for 9 of 10 tasks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """A ridge regression of own-task shares on surprise, and on its decrease by adapting.

    Attributes:
        surprise: the model's surprise at a support of each task, [T, P].
        learned: decrease of its mean by adaptation to that support, [T].
        own_task: own-task share of each task, [T].
    """

    surprise: Tensor
    learned: Tensor
    own_task: Tensor

    def expected(self, surprise: Tensor, learned: Tensor) -> Expected:
        """Predict the own-task share of another task.

        The interval is the jackknife+ (Barber et al. 2021, "Predictive inference with the
        jackknife+", eq. 1.4): each task is left out in turn, and the error of that regression on it
        widens the prediction. It holds for 9 of 10 tasks like these, and for at least 8 of 10 in
        any case (their theorem 1).

        Args:
            surprise: the model's surprise at the support, [P].
            learned: decrease of its mean by adaptation, [].
        """
        value, *without = self._fits(_features(surprise, learned)).tolist()
        errors = self._errors.tolist()
        rank = math.ceil(CONFIDENCE * (len(errors) + 1))
        if rank > len(errors):  # too few tasks for an interval
            return Expected(_share(value), 0.0, 1.0)
        low = sorted(here - off for here, off in zip(without, errors, strict=True))[-rank]
        high = sorted(here + off for here, off in zip(without, errors, strict=True))[rank - 1]
        return Expected(_share(value), _share(low), _share(high))

    @property
    def foresees(self) -> bool:
        """Whether it predicts tasks that it was made without better than their mean does."""
        y = self.own_task.double()
        by_mean = (y - y.mean()) * len(y) / max(1, len(y) - 1)
        return bool(self._errors.square().sum() < by_mean.square().sum())

    @cached_property
    def _errors(self) -> Tensor:
        """Compute the error on each task of the regression without it, [T]."""
        x = _features(self.surprise, self.learned)
        return (self.own_task.double() - self._fits(x).diagonal(offset=1)).abs()

    def _fits(self, x: Tensor) -> Tensor:
        """Predict at `x` [..., F] from all tasks, and without each: [..., 1 + T]."""
        level, mean, slope = self._regressions
        return level + ((x[..., None, :] - mean) * slope).sum(dim=-1)

    @cached_property
    def _regressions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fit ridge regressions on all tasks, and without each: levels, means and slopes by F."""
        x, y = _features(self.surprise, self.learned), self.own_task.double()
        count = len(y)
        weights = torch.cat([torch.ones(1, count), 1 - torch.eye(count)]).double()
        weights = weights / weights.sum(dim=1, keepdim=True)
        mean, level = weights @ x, weights @ y
        away = x - mean[:, None]
        scale = torch.einsum("bt,btp->bp", weights, away**2).sqrt().clamp_min(1e-6)
        a = away / scale[:, None]
        gram = torch.einsum("bt,btp,btq->bpq", weights, a, a)
        gram += _RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
        moment = torch.einsum("bt,btp,bt->bp", weights, a, y - level[:, None])
        return level, mean, torch.linalg.solve(gram, moment) / scale


def _features(surprise: Tensor, learned: Tensor) -> Tensor:
    """Return the regressors [..., F] of surprise [..., P] and learned [...]."""
    return torch.cat([surprise, learned[..., None]], dim=-1).double()


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
