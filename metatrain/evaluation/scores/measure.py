"""From images to scores: every metric, in every feature space, with its interval over tasks."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.base.progress import tracked
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
from metatrain.metrics.metric import EVALUATION_METRICS, MAIN_METRICS
from metatrain.metrics.precision_recall import precision, recall
from metatrain.metrics.retrieval import nearer_tasks, own_task_share
from metatrain.metrics.space import FeatureSpace


@dataclass(frozen=True, kw_only=True)
class RealFeatures:
    """Features of the real images of one seed: support [T, K, D], the others [T, N, D] each."""

    support: Tensor
    reference: Tensor
    held_out: Tensor

    def memorisation(self, features: Tensor) -> Memorisation:
        """Return the memorisation of images with `features` [T, N, D]."""
        return Memorisation(
            features, held_out=self.held_out, reference=self.reference, support=self.support
        )


@dataclass(frozen=True, kw_only=True)
class NearCopy:
    """A sample, by its place [seed, task, image], and its nearest support image.

    Attributes:
        seed: number of its seed.
        task: number of its task.
        image: number of the sample among those of its task.
        support: number of the nearest support image.
        ratio: the distance to that, relative to the mean one of the task's reference images.
        memorised: whether the ratio is as small as only 5% of those of held-out images.
    """

    seed: int
    task: int
    image: int
    support: int
    ratio: float
    memorised: bool


# The statistic of each metric, from the features [T, N, D] of samples and those of real images.
STATISTICS: dict[str, Callable[[Tensor, RealFeatures], Statistic]] = {
    "kid": lambda x, real: mean_of_pairs(kid_of_pairs(x, real.reference)),
    "own_task": lambda x, real: mean_of(own_task_share(x, real.reference)),
    "memorised": lambda x, real: real.memorisation(x),
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

# The metrics after every number of inner steps.
CURVE = ("kid", "own_task")

# Scores by feature space, then by metric.
SpaceScores = dict[str, dict[str, Score]]


class Scorer:
    """Scores the samples of a benchmark in several feature spaces.

    Args:
        benchmark: the episodes, with the real images to compare with.
        spaces: the feature spaces; the first has all metrics, the others have the main ones.
    """

    def __init__(self, benchmark: Benchmark, spaces: Sequence[FeatureSpace]) -> None:
        self._spaces, self._tasks = spaces, len(benchmark.tasks)
        self._real = {space.name: _real_features(benchmark, space) for space in spaces}

    def scores(self, images: Tensor) -> SpaceScores:
        """Return all scores of images [S, T, N, C, H, W] in [-1, 1]."""
        first, *others = self._spaces
        return self._wanted_scores(
            images, [(first, EVALUATION_METRICS), *((space, MAIN_METRICS) for space in others)]
        )

    def main_scores(self, images: Tensor) -> SpaceScores:
        """Return the main scores of such images, in every feature space."""
        return self._wanted_scores(images, [(space, MAIN_METRICS) for space in self._spaces])

    def _wanted_scores(
        self, images: Tensor, wanted: Sequence[tuple[FeatureSpace, Collection[str]]]
    ) -> SpaceScores:
        scores = (
            (space.name, metric, value)
            for space, metrics in wanted
            for metric, value in self._scores(space, images, metrics)
        )
        result: SpaceScores = {space.name: {} for space in self._spaces}
        for name, metric, value in tracked("scoring", scores, sum(len(m) for _, m in wanted)):
            result[name][metric] = value
        return result

    def curve_scores(self, images: Tensor) -> dict[str, Score]:
        """Return the scores of a point of a curve, in the first space."""
        return dict(self._scores(self._spaces[0], images, CURVE))

    def mean_over_tasks(self, values: Tensor) -> Score:
        """Return the score whose value is the mean of every episode's, [S, T]."""
        return score(mean_of(values.mean(dim=0)), self._tasks)

    def by_task(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the own-task share and the KID of each task, both [T], in the first space."""
        space = self._spaces[0]
        seeds = list(zip(space.features(images), self._real[space.name], strict=True))
        shares = torch.stack([own_task_share(x, real.reference) for x, real in seeds])
        kids = torch.stack([kid_of_pairs(x, real.reference).diagonal() for x, real in seeds])
        return shares.mean(dim=0), kids.mean(dim=0)

    def nearer_tasks(self, images: Tensor) -> Tensor:
        """Return how many other tasks each sample is nearer to, [S, T, N], in the first space."""
        space = self._spaces[0]
        seeds = zip(space.features(images), self._real[space.name], strict=True)
        return torch.stack([nearer_tasks(x, real.reference) for x, real in seeds])

    def near_copies(self, images: Tensor) -> list[NearCopy]:
        """Find the support image nearest to every sample in the first space, nearest first."""
        space = self._spaces[0]
        seeds = zip(space.features(images), self._real[space.name], strict=True)
        copies = [
            copy for seed, (x, real) in enumerate(seeds) for copy in _near_copies(seed, x, real)
        ]
        return sorted(copies, key=lambda copy: copy.ratio)

    def _scores(
        self, space: FeatureSpace, images: Tensor, metrics: Collection[str]
    ) -> Iterator[tuple[str, Score]]:
        seeds = list(zip(space.features(images), self._real[space.name], strict=True))
        for metric in metrics:
            statistic = mean_over([STATISTICS[metric](x, r) for x, r in seeds])
            yield metric, score(statistic, self._tasks)


def _real_features(benchmark: Benchmark, space: FeatureSpace) -> list[RealFeatures]:
    """Return the features of the real images, by seed."""
    parts = (benchmark.support, benchmark.reference, benchmark.held_out)
    return [
        RealFeatures(support=support, reference=reference, held_out=held_out)
        for support, reference, held_out in zip(*map(space.features, parts), strict=True)
    ]


def _near_copies(seed: int, features: Tensor, real: RealFeatures) -> list[NearCopy]:
    memorisation = real.memorisation(features)
    nearest = nearest_index(features, real.support)
    return [
        NearCopy(
            seed=seed,
            task=task,
            image=image,
            support=int(nearest[task, image]),
            ratio=ratio,
            memorised=ratio <= memorisation.threshold,
        )
        for task, ratios in enumerate(memorisation.ratios.tolist())
        for image, ratio in enumerate(ratios)
    ]
