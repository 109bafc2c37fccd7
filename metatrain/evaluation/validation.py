"""Scores on a few unseen tasks, cheap enough to be taken again and again while a run trains.

One adaptation to each task gives the score of every number of inner steps on its way.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.machine import on_every_core
from metatrain.base.progress import Progress
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.tasks import TaskSource
from metatrain.metrics.kid import kid
from metatrain.metrics.network import HashedNetwork, metric_network
from metatrain.metrics.retrieval import own_task_share
from metatrain.model.adapt import Adapter
from metatrain.model.file import Model
from metatrain.model.progression import draw_strip
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.training.run_data import held_out_episodes


@dataclass(frozen=True)
class Scores:
    """How good a model is after so many inner steps, means over tasks.

    Attributes:
        k: inner steps taken.
        loss: the query loss; it may rise while what is drawn gets better.
        own_task: share of the drawn images whose nearest task is their own.
        similarity: cosine of a drawn image to the mean of its task's real ones.
        kid: KID pooled over tasks.
        task_kid: KID of each task by itself, from few images.
    """

    k: int
    loss: float
    own_task: float
    similarity: float
    kid: float
    task_kid: float


class Metric(NamedTuple):
    """What a search may minimise: what a person calls it, and how it follows from the scores."""

    title: str
    of: Callable[[Scores], float]


# Where more is better, less is made of it. In the order of how well they rank configurations, see
# docs/tuning.md.
METRICS = {
    "own_task": Metric("1 - own-task share", lambda scores: 1 - scores.own_task),
    "similarity": Metric("1 - similarity", lambda scores: 1 - scores.similarity),
    "task_kid": Metric("KID of single tasks", lambda scores: scores.task_kid),
    "kid": Metric("KID", lambda scores: scores.kid),
    "loss": Metric("query loss", lambda scores: scores.loss),
}


@dataclass(frozen=True)
class Validated:
    """The scores of a model after so many outer steps, one for each k that was looked at."""

    step: int
    curve: list[Scores]

    def by_k(self, metric: str) -> dict[int, float]:
        """What `metric` makes of the scores at each k; lower is better, infinite is no number."""
        values = {scores.k: METRICS[metric].of(scores) for scores in self.curve}
        return {k: value if math.isfinite(value) else math.inf for k, value in values.items()}

    def best(self, metric: str) -> Scores:
        """The scores at the k where `metric` is lowest."""
        values = self.by_k(metric)
        return min(self.curve, key=lambda scores: values[scores.k])


@dataclass(frozen=True)
class Sight:
    """What was seen of one task: by k, features [N, D] of what was drawn, and the query loss."""

    features: dict[int, Tensor]
    loss: dict[int, float]


class Validation:
    """The same unseen tasks at every look.

    Args:
        config: the run's configuration; its `validation` says how many tasks and images.
        source: the run's task source.
        network: in whose space images are compared.
        split: of the tasks.

    Attributes:
        episodes: one for each task.

    Raises:
        UserError: when fewer than two tasks have images enough.
    """

    def __init__(
        self, config: Config, source: TaskSource, network: HashedNetwork, split: str = "val"
    ) -> None:
        wanted = config.validation
        self.episodes = held_out_episodes(
            source, config, split=split, tasks=wanted.tasks, queries=wanted.images
        )
        if len(self.episodes) < 2:
            raise UserError(
                f"split '{split}' of {source.url} has one task with enough images; scores "
                f"need two, so lower validation.images or data.shots, or pack more tasks."
            )
        self._images, self._network = wanted.images, network
        self._ks = steps_scored(config.adapt.steps, wanted.points)
        self._reference = network.features(torch.stack([e.query.target for e in self.episodes]))

    def look(self, adapter: Adapter, episode: Episode) -> Sight:
        """Adapt to a task, looking on the way."""
        strip = draw_strip(adapter, episode, self._ks, self._images)
        drawn = {k: self._network.features(images.cpu()) for k, images in strip.drawn.items()}
        return Sight(drawn, strip.query_loss)

    def scores(self, sights: Sequence[Sight]) -> list[Scores]:
        """The scores at every k of what was seen of the first tasks, in order of `episodes`."""
        return [self._scores(k, sights) for k in self._ks]

    def _scores(self, k: int, sights: Sequence[Sight]) -> Scores:
        drawn = torch.stack([sight.features[k] for sight in sights])
        real = self._reference[: len(sights)]
        own = [kid(x[None], y[None]) for x, y in zip(drawn, real, strict=True)]
        return Scores(
            k=k,
            loss=_mean([sight.loss[k] for sight in sights]),
            own_task=own_task_share(drawn, real).mean().item(),
            similarity=_similarity(drawn, real).mean().item(),
            kid=kid(drawn, real),
            task_kid=_mean(own),
        )


def validation_of(config: Config, source: TaskSource) -> Validation:
    """The validation of a run, whose metric network is trained first where there is none."""
    url = config.validation.network or f"{config.run.url}/metric.safetensors"
    return Validation(config, source, metric_network(source, config.data, url))


def curves_of(
    models: Sequence[Model], validation: Validation, tasks: int | None = None
) -> list[list[Scores]]:
    """The scores of every model at every k, on the first `tasks` or on all.

    One thread a core, each on one task.
    """
    episodes = validation.episodes[:tasks]
    pairs = [(model, episode) for model in models for episode in episodes]
    progress, sights = Progress(f"adapting to {len(episodes)} tasks", len(pairs)), []
    for sight in on_every_core(lambda pair: validation.look(Adapter(pair[0]), pair[1]), pairs):
        sights.append(sight)
        progress.update(len(sights))
    progress.close()
    each = len(episodes)
    return [validation.scores(sights[i : i + each]) for i in range(0, len(pairs), each)]


def steps_scored(last: int, points: int) -> list[int]:
    """About `points` numbers of inner steps up to `last`: all of them, or in equal ratios."""
    if points >= last:
        return list(range(1, last + 1))
    ratios = [1 - i / max(1, points - 1) for i in range(points)]
    return sorted({round(last**ratio) for ratio in ratios})


def read_validations(run: str) -> list[Validated]:
    """What was found of a run so far, by outer step; empty where nothing was.

    Raises:
        UserError: when it cannot be read.
    """
    url = _url(run)
    try:
        found = json.loads(read_file(url))
        return [Validated(v["step"], [Scores(**s) for s in v["curve"]]) for v in found]
    except MissingError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{url} is damaged ({error}); remove it.") from error


def write_validations(run: str, found: Sequence[Validated]) -> None:
    """Keep with the run what was found of it."""
    write_file(_url(run), json.dumps([asdict(validated) for validated in found]).encode())


def _url(run: str) -> str:
    return f"{run}/validation.json"


def _similarity(drawn: Tensor, real: Tensor) -> Tensor:
    """Cosine [T, N] of each image to the mean direction of its task's real ones."""
    means = F.normalize(F.normalize(real, dim=-1).mean(dim=1), dim=-1)
    return (F.normalize(drawn, dim=-1) * means[:, None]).sum(dim=-1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
