"""From images to scores: every metric, in every feature space, with its interval over tasks."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.scores.statistics import (
    Score,
    Statistic,
    mean_of,
    mean_of_pairs,
    mean_over,
    score,
)
from metatrain.metrics.classification import accuracy
from metatrain.metrics.density_coverage import coverage, density
from metatrain.metrics.diversity import diversity
from metatrain.metrics.frechet import Frechet
from metatrain.metrics.kid import kid_of_pairs
from metatrain.metrics.memorisation import Memorisation, nearest_index
from metatrain.metrics.precision_recall import precision, recall
from metatrain.metrics.registry import EVALUATION_METRICS, MAIN_METRICS
from metatrain.metrics.retrieval import own_task_share
from metatrain.metrics.space import FeatureSpace


@dataclass(frozen=True)
class Real:
    """The real images of one seed as features: support [T, K, D] and two times [T, N, D]."""

    support: Tensor
    reference: Tensor
    held_out: Tensor


@dataclass(frozen=True)
class NearCopy:
    """An image by its place [seed, task, image], and the support image that it is nearest to.

    Attributes:
        seed: its seed.
        task: its task, by number.
        image: which of the task's images it is.
        support: the nearest of the support.
        ratio: that distance, by the mean one of the task's reference images.
        memorised: whether the ratio is as small as only 5% of those of held-out images.
    """

    seed: int
    task: int
    image: int
    support: int
    ratio: float
    memorised: bool


# By metric, its statistic over tasks, from the features [T, N, D] of images and the real ones.
STATISTICS: dict[str, Callable[[Tensor, Real], Statistic]] = {
    "kid": lambda x, real: mean_of_pairs(kid_of_pairs(x, real.reference)),
    "own_task": lambda x, real: mean_of(own_task_share(x, real.reference)),
    "memorised": lambda x, real: Memorisation(x, real.held_out, real.reference, real.support),
    "frechet": lambda x, real: Frechet(x, real.reference),
    "precision": lambda x, real: mean_of(precision(x, real.reference)),
    "recall": lambda x, real: mean_of(recall(x, real.reference)),
    "density": lambda x, real: mean_of(density(x, real.reference)),
    "coverage": lambda x, real: mean_of(coverage(x, real.reference)),
    "diversity": lambda x, _: mean_of(diversity(x)),
    # A classifier of real images labels the samples, and a classifier of samples the real ones.
    "recognised": lambda x, real: mean_of(accuracy(x, real.reference)),
    "teaches": lambda x, real: mean_of(accuracy(real.held_out, x)),
}

# What every number of inner steps is scored by.
CURVE = ("kid", "own_task")

# By feature space, then by metric.
Scores = dict[str, dict[str, Score]]


class Judge:
    """Scores images of a benchmark in several feature spaces, the first of which has all metrics.

    Args:
        benchmark: whose real images are compared with.
        spaces: the feature spaces.
    """

    def __init__(self, benchmark: Benchmark, spaces: Sequence[FeatureSpace]) -> None:
        self.spaces, self._tasks = spaces, len(benchmark.tasks)
        parts = (benchmark.support, benchmark.reference, benchmark.held_out)
        self._real = {
            space.name: [Real(*seed) for seed in zip(*map(space.features, parts), strict=True)]
            for space in spaces
        }

    def scores(self, images: Tensor) -> Scores:
        """All scores of images [S, T, N, C, H, W] in [-1, 1]."""
        first, *others = self.spaces
        return {first.name: self._in(first, images, EVALUATION_METRICS)} | {
            space.name: self._in(space, images, MAIN_METRICS) for space in others
        }

    def point(self, images: Tensor) -> dict[str, Score]:
        """The scores of a curve's point, in the first space."""
        return self._in(self.spaces[0], images, CURVE)

    def of_tasks(self, values: Tensor) -> Score:
        """The mean of what every episode got, [S, T]."""
        return score(mean_of(values.mean(dim=0)), self._tasks)

    def by_task(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Each task's own-task share and its KID by itself, both [T], in the first space."""
        space = self.spaces[0]
        seeds = list(zip(space.features(images), self._real[space.name], strict=True))
        shares = torch.stack([own_task_share(x, real.reference) for x, real in seeds])
        kids = torch.stack([kid_of_pairs(x, real.reference).diagonal() for x, real in seeds])
        return shares.mean(dim=0), kids.mean(dim=0)

    def near_copies(self, images: Tensor) -> list["NearCopy"]:
        """Every image with the support image it is nearest to in the first space, nearest first."""
        space, found = self.spaces[0], []
        seeds = zip(space.features(images), self._real[space.name], strict=True)
        for seed, (x, real) in enumerate(seeds):
            memorised = Memorisation(x, real.held_out, real.reference, real.support)
            index = nearest_index(x, real.support)
            found += [
                NearCopy(seed, t, n, int(index[t, n]), r, r <= memorised.threshold)
                for t, row in enumerate(memorised.ratios.tolist())
                for n, r in enumerate(row)
            ]
        return sorted(found, key=lambda copy: copy.ratio)

    def _in(
        self, space: FeatureSpace, images: Tensor, metrics: Collection[str]
    ) -> dict[str, Score]:
        features, real = space.features(images), self._real[space.name]
        found = {}
        for name in metrics:
            statistic = STATISTICS[name]
            seeds = [statistic(x, r) for x, r in zip(features, real, strict=True)]
            found[name] = score(mean_over(seeds), self._tasks)
        return found
