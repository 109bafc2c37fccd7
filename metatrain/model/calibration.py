"""Calibration: results on unseen tasks, from which the quality on another task is predicted.

A model's surprise at a handful of images is its log-loss on them at a few levels of noise. A
support is unfamiliar if its surprise is far from those of unseen tasks of the training's kind. Too
small a surprise counts as much as too large a one: simple images of other data may be likelier than
the data itself (Nalisnick et al. 2019, "Do Deep Generative Models Know What They Don't Know?"). The
quality is predicted from the surprise and from how far it falls by adaptation.
"""

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

# A support is called unfamiliar if fewer than this share of unseen tasks are as unfamiliar.
UNFAMILIAR = 0.05
# The share of tasks whose quality is in the interval.
CONFIDENCE = 0.9

# How far covariances shrink towards their diagonal, so that few tasks are enough for one.
_SHRINKAGE = 0.1
# The penalty on squared slopes, relative to the variance of the regressors.
_RIDGE = 0.1

# Their covariance has the square of so many numbers.
_MOST_FEATURES = 256

_ARRAYS = ("surprise", "learned", "own_task")


@dataclass(frozen=True)
class Expected:
    """An expected own-task share, with the interval that holds for 9 of 10 tasks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """A model's results on unseen tasks, to predict those on another.

    Attributes:
        model: sha256 of the model; the results hold for no other.
        benchmark: name of the data set.
        shots: images of each support (K).
        surprise: the model's surprise at a support of each task, [T, P].
        learned: decrease of its mean by adaptation to that support, [T].
        own_task: share of the samples of each task that were nearest to their own task, [T].
    """

    model: str
    benchmark: str
    shots: int
    surprise: Tensor
    learned: Tensor
    own_task: Tensor

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            ValueError: when the arrays are not of the same tasks, or are not finite.
        """
        by_task = self.learned.shape, self.own_task.shape
        if not self.shots > 0:
            raise ValueError("its calibration is of no images")
        if self.surprise.ndim != 2 or by_task != 2 * (self.surprise.shape[:1],):
            raise ValueError("the arrays of its calibration differ in length")
        if not len(self.surprise) or self.surprise.shape[1] > _MOST_FEATURES:
            raise ValueError("its calibration is of no tasks, or of too many features")
        if not all(array.isfinite().all() for array in self._arrays().values()):
            raise ValueError("its calibration is not finite")

    @staticmethod
    def of_parts(values: dict[str, Any], arrays: dict[str, Tensor]) -> "Calibration":
        """Make a calibration of its `parts`.

        Raises:
            KeyError: when one is missing.
            TypeError, ValueError: when one has a wrong type or shape.
        """
        return Calibration(
            str(values["model"]),
            str(values["benchmark"]),
            int(values["shots"]),
            **{name: arrays[name] for name in _ARRAYS},
        )

    def parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the values that JSON can hold, and the arrays."""
        arrays = self._arrays()
        return {n: v for n, v in asdict(self).items() if n not in arrays}, arrays

    def _arrays(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _ARRAYS}

    def familiarity(self, surprise: Tensor) -> float:
        """Return the share of tasks, this one included, that are no more familiar than it.

        The share is a full conformal p-value (Vovk, Gammerman and Shafer 2005, "Algorithmic
        Learning in a Random World", section 2.2) of the Mahalanobis distance from the mean of all
        T + 1 tasks. For a task like the others it is at most a with probability at most a, whatever
        their distribution and number; it is at least 1 / (T + 1).

        Args:
            surprise: the model's surprise at the support, [P].
        """
        tasks = torch.cat([self.surprise, surprise[None]]).double()
        away = tasks - tasks.mean(dim=0)
        covariance = away.T @ away / len(away)
        covariance += _SHRINKAGE * (covariance.diagonal().diag() - covariance)
        distance = (away @ torch.linalg.pinv(covariance, hermitian=True) * away).sum(dim=1)
        # Rounding must not make its own distance smaller than itself.
        return (distance >= distance[-1] * (1 - 1e-9)).double().mean().item()

    def expected(self, surprise: Tensor, learned: Tensor) -> Expected:
        """Predict the own-task share by ridge regression on all tasks.

        The interval is the jackknife+ (Barber et al. 2021, "Predictive inference with the
        jackknife+", eq. 1.4): each task is left out in turn, and the error of that regression on it
        widens the prediction. It holds for 9 of 10 tasks like these, and for at least 8 of 10 in
        any case (their theorem 1).

        Args:
            surprise: the model's surprise at the support, [P].
            learned: decrease of its mean by adaptation, [].
        """
        y = self.own_task.double()
        value, *without = self._fits(_features(surprise, learned)).tolist()
        errors = (y - self._fits(self._x).diagonal(offset=1)).abs().tolist()
        rank = math.ceil(CONFIDENCE * (len(y) + 1))
        if rank > len(y):  # too few tasks for an interval
            return Expected(_share(value), 0.0, 1.0)
        low = sorted(here - off for here, off in zip(without, errors, strict=True))[-rank]
        high = sorted(here + off for here, off in zip(without, errors, strict=True))[rank - 1]
        return Expected(_share(value), _share(low), _share(high))

    @property
    def _x(self) -> Tensor:
        return _features(self.surprise, self.learned)

    def _fits(self, x: Tensor) -> Tensor:
        """Predict at `x` [..., F] from all tasks, and without each: [..., 1 + T]."""
        level, mean, slope = self._regressions
        return level + ((x[..., None, :] - mean) * slope).sum(dim=-1)

    @cached_property
    def _regressions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fit ridge regressions on all tasks, and without each: levels, means and slopes by F."""
        x, y = self._x, self.own_task.double()
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
