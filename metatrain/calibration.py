"""What to expect of a support before anything is drawn: is it familiar, and how good will it get?

How badly a model predicts a handful of images, at a few levels of noise, is its surprise. It is
compared with that at unseen tasks of the kind that the model was trained on. Too small a surprise
tells of something else as well as too large a one does, so what counts is how far it lies from
theirs: simple images of other data may be likelier than the data itself (Nalisnick et al. 2019, "Do
Deep Generative Models Know What They Don't Know?").
"""

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

# A support is called unfamiliar if fewer than this share of unseen tasks are as unfamiliar.
UNFAMILIAR = 0.05
# The share of tasks whose quality lies in the interval.
CONFIDENCE = 0.9

# How far covariances are shrunk towards their diagonal, so that few tasks are enough for one.
_SHRINKAGE = 0.1
# The penalty on squared slopes, of the variance of what is regressed on.
_RIDGE = 0.1


@dataclass(frozen=True)
class Expected:
    """An own-task share that is expected, and the interval in which 9 of 10 tasks have theirs."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """What a model did on unseen tasks, to tell what it will do on another.

    Attributes:
        model: sha256 of the model that did it; of no other does it tell anything.
        benchmark: the name of the data set.
        shots: images of each support (K).
        surprise: the model's surprise at a support of each task, [T, P].
        own_task: the share of what it drew of each task that was nearest to its own task, [T].
    """

    model: str
    benchmark: str
    shots: int
    surprise: Tensor
    own_task: Tensor

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: when the arrays do not belong together, or are not finite.
        """
        if self.surprise.ndim != 2 or self.own_task.shape != self.surprise.shape[:1]:
            raise ValueError("the arrays of its calibration do not belong together")
        if not (self.surprise.isfinite().all() and self.own_task.isfinite().all()):
            raise ValueError("its calibration is not finite")

    @staticmethod
    def of_parts(said: dict[str, Any], arrays: dict[str, Tensor]) -> "Calibration":
        """The calibration whose `parts` these are.

        Raises:
            TypeError: when one is missing.
            ValueError: when they cannot be.
        """
        parts: dict[str, Any] = {**said, **arrays}
        return Calibration(**parts)

    def parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What can be written as JSON, and the arrays."""
        arrays = {"surprise": self.surprise, "own_task": self.own_task}
        return {n: v for n, v in asdict(self).items() if n not in arrays}, arrays

    def familiarity(self, surprise: Tensor) -> float:
        """The share of tasks, this one among them, that are no more familiar than `surprise` [P].

        A full conformal p-value (Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a
        Random World", section 2.2) of the Mahalanobis distance from the mean of all T + 1. Of a
        task like the others it is at most a with a probability of at most a, whatever their
        distribution and number; it cannot be below 1 / (T + 1).
        """
        everyone = torch.cat([self.surprise, surprise[None]]).double()
        away = everyone - everyone.mean(dim=0)
        covariance = away.T @ away / len(away)
        covariance += _SHRINKAGE * (covariance.diagonal().diag() - covariance)
        distance = (away @ torch.linalg.pinv(covariance, hermitian=True) * away).sum(dim=1)
        # Rounding may not make its own distance smaller than itself.
        return (distance >= distance[-1] * (1 - 1e-9)).double().mean().item()

    def expected(self, surprise: Tensor) -> Expected:
        """The own-task share to expect at `surprise` [P], by ridge regression on all tasks.

        The interval is the jackknife+ (Barber et al. 2021, "Predictive inference with the
        jackknife+", eq. 1.4): each task in turn is left out, and what that regression misses it by
        is added to what it says here. It holds for 9 of 10 tasks like these, and in no case for
        fewer than 8 of 10 (their theorem 1).
        """
        y = self.own_task.double()
        value, *without = self._fits(surprise).tolist()
        missed = (y - self._fits(self.surprise).diagonal(offset=1)).abs().tolist()
        rank = math.ceil(CONFIDENCE * (len(y) + 1))
        if rank > len(y):  # too few tasks to tell
            return Expected(_share(value), 0.0, 1.0)
        low = sorted(here - off for here, off in zip(without, missed, strict=True))[-rank]
        high = sorted(here + off for here, off in zip(without, missed, strict=True))[rank - 1]
        return Expected(_share(value), _share(low), _share(high))

    def _fits(self, surprise: Tensor) -> Tensor:
        """What is expected at `surprise` [..., P] by all tasks, and without each: [..., 1 + T]."""
        level, mean, slope = self._regressions
        return level + ((surprise.double()[..., None, :] - mean) * slope).sum(dim=-1)

    @cached_property
    def _regressions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ridge regressions on all tasks, and without each: levels, means and slopes by P."""
        x, y = self.surprise.double(), self.own_task.double()
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


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
