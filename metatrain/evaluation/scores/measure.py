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
from metatrain.metrics.retrieval import own_task_share
from metatrain.metrics.space import FeatureSpace


@dataclass(frozen=True)
class Real:
    """The real images of one seed as features: support [T, K, D] and two times [T, N, D]."""

    support: Tensor
    reference: Tensor
    held_out: Tensor


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        title: what a person calls it, in 11 letters.
        statistic: of the features [T, N, D] of images, and the real ones.
        share: whether it is one, to be shown in percent.
        everywhere: whether it is taken in every space, to see that nothing hangs on one network.
    """

    title: str
    statistic: Callable[[Tensor, Real], Statistic]
    share: bool = True
    everywhere: bool = False


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


# Their formulas are in `metatrain.metrics`.
METRICS = {
    "kid": Metric(
        "KID", lambda x, real: mean_of_pairs(kid_of_pairs(x, real.reference)), False, True
    ),
    "own_task": Metric(
        "own task", lambda x, real: mean_of(own_task_share(x, real.reference)), everywhere=True
    ),
    "memorised": Metric(
        "memorised",
        lambda x, real: Memorisation(x, real.held_out, real.reference, real.support),
        everywhere=True,
    ),
    "frechet": Metric("Frechet", lambda x, real: Frechet(x, real.reference), share=False),
    "precision": Metric("precision", lambda x, real: mean_of(precision(x, real.reference))),
    "recall": Metric("recall", lambda x, real: mean_of(recall(x, real.reference))),
    "density": Metric("density", lambda x, real: mean_of(density(x, real.reference)), share=False),
    "coverage": Metric("coverage", lambda x, real: mean_of(coverage(x, real.reference))),
    "diversity": Metric("diversity", lambda x, _: mean_of(diversity(x)), share=False),
    # By a classifier of real images; and by one that has seen these images only.
    "recognised": Metric("recognised", lambda x, real: mean_of(accuracy(x, real.reference))),
    "teaches": Metric("teaches", lambda x, real: mean_of(accuracy(real.held_out, x))),
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
        partly = [name for name, metric in METRICS.items() if metric.everywhere]
        return {first.name: self._in(first, images, METRICS)} | {
            space.name: self._in(space, images, partly) for space in others
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
            of = METRICS[name].statistic
            seeds = [of(x, r) for x, r in zip(features, real, strict=True)]
            found[name] = score(mean_over(seeds), self._tasks)
        return found
