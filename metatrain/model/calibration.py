"""What to expect of a support before anything is drawn: is it familiar, and how good will it get?

How badly a model predicts a handful of images, at a few levels of noise, is its surprise. It is
compared with that at unseen tasks of the kind that the model was trained on. Too small a surprise
tells of something else as well as too large a one does, so what counts is how far it lies from
theirs: simple images of other data may be likelier than the data itself (Nalisnick et al. 2019, "Do
Deep Generative Models Know What They Don't Know?"). How good it will get, adapting tells more of:
by how much the surprise at the support has then fallen is what the model learned.
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

_ARRAYS = ("surprise", "learned", "own_task")


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
        learned: how far its mean fell by adapting to that, [T].
        own_task: the share of what it drew of each task that was nearest to its own task, [T].
    """

    model: str
    benchmark: str
    shots: int
    surprise: Tensor
    learned: Tensor
    own_task: Tensor

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: when the arrays do not belong together, or are not finite.
        """
        by_task = self.learned.shape, self.own_task.shape
        if self.surprise.ndim != 2 or by_task != 2 * (self.surprise.shape[:1],):
            raise ValueError("the arrays of its calibration do not belong together")
        if not all(array.isfinite().all() for array in self._arrays().values()):
            raise ValueError("its calibration is not finite")

    @staticmethod
    def of_parts(said: dict[str, Any], arrays: dict[str, Tensor]) -> "Calibration":
        """The calibration whose `parts` these are.

        Raises:
            KeyError: when one is missing.
            TypeError, ValueError: when they cannot be.
        """
        return Calibration(
            str(said["model"]),
            str(said["benchmark"]),
            int(said["shots"]),
            **{name: arrays[name] for name in _ARRAYS},
        )

    def parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What can be written as JSON, and the arrays."""
        arrays = self._arrays()
        return {n: v for n, v in asdict(self).items() if n not in arrays}, arrays

    def _arrays(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _ARRAYS}

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

    def expected(self, surprise: Tensor, learned: Tensor) -> Expected:
        """The share to expect at `surprise` [P] and `learned` [], by ridge regression on all tasks.

        The interval is the jackknife+ (Barber et al. 2021, "Predictive inference with the
        jackknife+", eq. 1.4): each task in turn is left out, and what that regression misses it by
        is added to what it says here. It holds for 9 of 10 tasks like these, and in no case for
        fewer than 8 of 10 (their theorem 1).
        """
        y = self.own_task.double()
        value, *without = self._fits(_features(surprise, learned)).tolist()
        missed = (y - self._fits(self._x).diagonal(offset=1)).abs().tolist()
        rank = math.ceil(CONFIDENCE * (len(y) + 1))
        if rank > len(y):  # too few tasks to tell
            return Expected(_share(value), 0.0, 1.0)
        low = sorted(here - off for here, off in zip(without, missed, strict=True))[-rank]
        high = sorted(here + off for here, off in zip(without, missed, strict=True))[rank - 1]
        return Expected(_share(value), _share(low), _share(high))

    @property
    def _x(self) -> Tensor:
        return _features(self.surprise, self.learned)

    def _fits(self, x: Tensor) -> Tensor:
        """What is expected at `x` [..., F] by all tasks, and without each: [..., 1 + T]."""
        level, mean, slope = self._regressions
        return level + ((x[..., None, :] - mean) * slope).sum(dim=-1)

    @cached_property
    def _regressions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ridge regressions on all tasks, and without each: levels, means and slopes by F."""
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
    """What is regressed on, [..., F], of surprise [..., P] and learned [...]."""
    return torch.cat([surprise, learned[..., None]], dim=-1).double()


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
