"""Validation: scores on a few unseen tasks, cheap enough to repeat during a training.

One adaptation to each task gives the scores at every number of inner steps.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from metatrain.base.device import on_every_core
from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.base.section import Count
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.tasks import TaskSource
from metatrain.metrics.kid import kid
from metatrain.metrics.metric import VALIDATION_METRICS
from metatrain.metrics.network import NETWORK, HashedNetwork, metric_network
from metatrain.metrics.retrieval import own_task_share
from metatrain.model.adapt import Adapter
from metatrain.model.model import Model
from metatrain.model.progression import draw_strip
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.training.run_data import held_out_episodes, refuse_few_held_out


@dataclass(frozen=True, kw_only=True)
class ValidationScores:
    """Scores of a model after k inner steps, means over tasks.

    Attributes:
        k: inner steps.
        loss: the query loss; it may rise while samples improve.
        own_task: share of the samples that are nearest to their own task.
        similarity: cosine of a sample to the mean of its task's real images.
        kid: KID pooled over tasks.
        task_kid: mean of the KID of each task by itself, from few images.
    """

    k: Count
    loss: float
    own_task: float
    similarity: float
    kid: float
    task_kid: float

    def value(self, metric: str) -> float:
        """Return the score in one of `VALIDATION_METRICS`."""
        return getattr(self, metric)

    def cost(self, metric: str) -> float:
        """Return the cost of the score in `metric`, see `Metric.cost`; lower is better."""
        return VALIDATION_METRICS[metric].cost(self.value(metric))


@dataclass(frozen=True)
class ValidationResult:
    """The validation of a model after `step` outer steps: its scores at each k that is scored."""

    step: Count
    curve: Annotated[list[ValidationScores], Field(min_length=1)]

    def costs(self, metric: str) -> dict[int, float]:
        """Return by k the cost of the score in `metric`."""
        return {scores.k: scores.cost(metric) for scores in self.curve}

    def best(self, metric: str) -> ValidationScores:
        """Return the scores at the k that is best by `metric`."""
        return min(self.curve, key=lambda scores: scores.cost(metric))


_RESULTS = TypeAdapter(list[ValidationResult])


@dataclass(frozen=True)
class TaskFeatures:
    """The features [N, D] of samples of one task by k, and the query loss by k."""

    features: dict[int, Tensor]
    loss: dict[int, float]

    def rows(self) -> list[tuple[int, Tensor, float]]:
        """List k, features and loss, for the other workers."""
        return [(k, features, self.loss[k]) for k, features in self.features.items()]

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[int, Tensor, float]]) -> "TaskFeatures":
        """Make them of another worker's rows."""
        rows = list(rows)
        return cls({k: features for k, features, _ in rows}, {k: loss for k, _, loss in rows})


class Validation:
    """Scores models on the same unseen tasks every time.

    Args:
        config: configuration of the run; its section `validation` has the numbers of tasks and
            images.
        source: the task source of the run.
        network: the metric network.
        split: split of the tasks.

    Attributes:
        episodes: one episode of each task.

    Raises:
        UserError: when fewer than two tasks have enough images.
    """

    def __init__(
        self, config: Config, source: TaskSource, network: HashedNetwork, split: str = "val"
    ) -> None:
        settings = config.validation
        refuse_few_held_out(source, config, split)
        self.episodes = held_out_episodes(
            source, config, split=split, tasks=settings.tasks, queries=settings.images
        )
        self._images, self._network = settings.images, network
        self._ks = steps_scored(config.adapt.steps, settings.points)
        self._reference = network.features(torch.stack([e.query.target for e in self.episodes]))

    def task_features(self, adapter: Adapter, episode: Episode) -> TaskFeatures:
        """Adapt to an episode, and return the features of samples at every k that is scored."""
        strip = draw_strip(adapter, episode, self._ks, self._images)
        features = {k: self._network.features(images.cpu()) for k, images in strip.drawn.items()}
        return TaskFeatures(features, strip.query_loss)

    def scores(self, tasks: Sequence[TaskFeatures]) -> list[ValidationScores]:
        """Return the scores at every k on the first tasks, whose features come in their order."""
        return [self._scores(k, tasks) for k in self._ks]

    def _scores(self, k: int, tasks: Sequence[TaskFeatures]) -> ValidationScores:
        samples = torch.stack([task.features[k] for task in tasks])
        real = self._reference[: len(tasks)]
        kids = [kid(x[None], y[None]) for x, y in zip(samples, real, strict=True)]
        return ValidationScores(
            k=k,
            loss=_mean([task.loss[k] for task in tasks]),
            own_task=own_task_share(samples, real).mean().item(),
            similarity=_similarity(samples, real).mean().item(),
            kid=kid(samples, real),
            task_kid=_mean(kids),
        )


def validation_of(config: Config, source: TaskSource, known: Sequence[str] = ()) -> Validation:
    """Build the validation of a run; train its metric network first if there is none.

    Args:
        config: the run's configuration.
        source: its task source.
        known: see `metric_network`.
    """
    run, data = config.run.url, config.data
    network = metric_network(
        source,
        config.validation.network or f"{run}/{NETWORK}",
        image_size=data.image_size,
        channels=data.channels,
        known=[*known, f"{run}/evaluation/{NETWORK}"],
    )
    return Validation(config, source, network)


def validation_curves(
    models: Sequence[Model], validation: Validation, tasks: int | None = None
) -> list[list[ValidationScores]]:
    """Return the scores of every model at every k, on the first `tasks` tasks or on all.

    Adapts on one thread a core, each to one task.
    """
    episodes = validation.episodes[:tasks]
    pairs = [(model, episode) for model in models for episode in episodes]

    def adapt(pair: tuple[Model, Episode]) -> TaskFeatures:
        return validation.task_features(pair[0].adapter(), pair[1])

    results = on_every_core(adapt, pairs)
    features = list(tracked(f"adapting to {len(episodes)} tasks", results, len(pairs)))
    each = len(episodes)
    return [validation.scores(features[i : i + each]) for i in range(0, len(pairs), each)]


def steps_scored(last: int, points: int) -> list[int]:
    """Return about `points` numbers of inner steps up to `last`: all, or in equal ratios."""
    if points >= last:
        return list(range(1, last + 1))
    ratios = [1 - i / max(1, points - 1) for i in range(points)]
    return sorted({round(last**ratio) for ratio in ratios})


def read_validations(run: str) -> list[ValidationResult]:
    """Read the validations of a run so far, by outer step; empty if there are none.

    Raises:
        UserError: when the file cannot be read.
    """
    url = _url(run)
    try:
        data = read_file(url)
    except MissingError:
        return []
    try:
        return _RESULTS.validate_json(data)
    except ValidationError as error:
        raise UserError(f"{url} is damaged ({error.errors()[0]['msg']}); remove it.") from error


def add_validation(run: str, result: ValidationResult) -> None:
    """Keep a result with the run, in the place of any of its step or a later one."""
    earlier = [v for v in read_validations(run) if v.step < result.step]
    write_validations(run, [*earlier, result])


def write_validations(run: str, results: Sequence[ValidationResult]) -> None:
    """Write all validations of a run to its folder."""
    write_file(_url(run), json.dumps([asdict(result) for result in results]).encode())


def _url(run: str) -> str:
    return f"{run}/validation.json"


def _similarity(samples: Tensor, real: Tensor) -> Tensor:
    """Return the cosine [T, N] of each sample to the mean direction of its task's real images."""
    means = F.normalize(F.normalize(real, dim=-1).mean(dim=1), dim=-1)
    return (F.normalize(samples, dim=-1) * means[:, None]).sum(dim=-1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
