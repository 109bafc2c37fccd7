"""Calibration: results on unseen tasks, from which the quality on another task is predicted.

A model's surprise at a handful of images is its log-loss on them at a few levels of noise. A
support is unfamiliar if its surprise is far from those of unseen tasks of the training's kind. Too
small a surprise counts as much as too large a one: simple images of other data may be likelier than
the data itself (Nalisnick et al. 2019, "Do Deep Generative Models Know What They Don't Know?"). The
quality is predicted from the surprise and from how far it falls by adaptation.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metatrain.metrics.retrieval import own_task_share_among
from metatrain.model.forecast import Forecast

# A support is called unfamiliar if fewer than this share of unseen tasks are as unfamiliar.
UNFAMILIAR = 0.05

# How far covariances shrink towards their diagonal, so that few tasks are enough for one.
_SHRINKAGE = 0.1
# Their covariance has the square of so many numbers.
_MOST_FEATURES = 256

_ARRAYS = ("surprise", "learned", "nearer")


class SampleSizes(NamedTuple):
    """The tasks, seeds and images that a quality is measured with.

    Own task is an easy question among few tasks and a hard one among many, and the mean of several
    seeds scatters less than one seed, so qualities of two extents are not compared.

    Attributes:
        tasks: the tasks among which an image is nearest to its own, or not.
        seeds: adaptations to each task, over which a quality is the mean.
        images: samples after each.
    """

    tasks: int
    seeds: int
    images: int

    def common(self, other: "SampleSizes") -> "SampleSizes":
        """Return the largest extent that both can be measured in."""
        return SampleSizes(*map(min, self, other))

    def own_task(self, nearer: Tensor) -> Tensor:
        """Return the own-task share of each task [T], as it is in this extent.

        Args:
            nearer: how many other tasks each sample is nearer to than its own, [S, T, N].
        """
        within = nearer[: self.seeds, :, : self.images]
        return own_task_share_among(within, self.tasks).mean(dim=0)


@dataclass(frozen=True)
class Calibration:
    """A model's results on unseen tasks, to predict those on another.

    Attributes:
        model: sha256 of the model; the results hold for no other.
        benchmark: name of the data set.
        shots: images of each support (K).
        surprise: the model's surprise at a support of each task, [T, P].
        learned: decrease of its mean by adaptation to that support, [T].
        nearer: how many other tasks each of N samples of S seeds is nearer to than its own, whole
            numbers [S, T, N].
    """

    model: str
    benchmark: str
    shots: int
    surprise: Tensor
    learned: Tensor
    nearer: Tensor

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            ValueError: when the arrays are not of the same tasks, or are not finite.
        """
        if self.nearer.ndim != 3 or self.nearer.dtype != torch.int32 or not self.nearer.numel():
            raise ValueError("its calibration has no counts of nearer tasks")
        by_task = self.learned.shape, self.nearer.shape[1:2]
        if not self.shots > 0:
            raise ValueError("its calibration is of no images")
        if self.surprise.ndim != 2 or by_task != 2 * (self.surprise.shape[:1],):
            raise ValueError("the arrays of its calibration differ in length")
        if not len(self.surprise) or self.surprise.shape[1] > _MOST_FEATURES:
            raise ValueError("its calibration is of no tasks, or of too many features")
        if not 0 <= int(self.nearer.min()) <= int(self.nearer.max()) < len(self.learned):
            raise ValueError("its calibration counts more tasks than it has")
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

    @property
    def extent(self) -> SampleSizes:
        """The tasks, seeds and images of the calibration."""
        seeds, tasks, images = self.nearer.shape
        return SampleSizes(tasks, seeds, images)

    def forecast(self, extent: SampleSizes | None = None) -> Forecast:
        """Make the forecast of the quality of another task, as it is measured in `extent`.

        Args:
            extent: at most the calibration's; by default all of its tasks and images, and one seed:
                one adaptation, as there is of a new task.
        """
        extent = extent or self.extent._replace(seeds=1)
        return Forecast(self.surprise, self.learned, extent.own_task(self.nearer))
