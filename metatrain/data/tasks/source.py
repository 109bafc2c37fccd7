"""The interface of a task source: the tasks of a run, and the episodes sampled from them."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from metatrain.base.progress import tracked
from metatrain.base.section import Section
from metatrain.data.episode_config import EpisodeConfig, TooFew
from metatrain.data.episodes import Episode
from metatrain.storage.read_counts import Traffic

C = TypeVar("C", bound=Section)
Plan = TypeVar("Plan")
SampledPlan = TypeVar("SampledPlan", covariant=True)

# Tasks of an endless source from which a metric network learns.
_METRIC_TASKS = 256


class EpisodeSampler(Protocol[SampledPlan]):
    """Plans of the episodes of one split."""

    @property
    def meta_batch(self) -> int:
        """Episodes of an outer step."""
        ...

    @property
    def epoch(self) -> int | None:
        """Episodes in which every task comes once; None where there is no end of tasks."""
        ...

    def plan(self, step: int, slot: int) -> SampledPlan:
        """Return the plan of `slot` (0 <= slot < meta_batch) in outer step `step`.

        The same arguments give an equal plan in every process. A plan is small and can be pickled.
        """
        ...


class TaskSource(ABC, Generic[C, Plan]):
    """A supply of tasks, and of episodes: ``episode = f(seed, split, step, slot)``.

    That is a pure function: a source remembers nothing from one episode to the next. So the
    episodes are the same at any world size, and a run resumes from its outer step alone. A plan
    holds all that is random about an episode; many threads read plans at the same time.

    Args:
        config: the source's section of the configuration, `data.tasks`.
        data: the rest of section `data`.

    Attributes:
        Config: the class of the section.
        reads_packed: whether the source reads the packed data set at `data.path`.
        traffic: the cost of reading so far.
    """

    Config: ClassVar[type[Section]]
    reads_packed: ClassVar[bool] = False

    def __init__(self, config: C, data: EpisodeConfig) -> None:
        self.config, self.data = config, data
        self.traffic = Traffic()

    @classmethod
    def conditions(cls, config: C, data: EpisodeConfig) -> dict[str, tuple[int, ...]]:
        """Return the shapes, by name, of the conditions that each example has by this source."""
        return {}

    @abstractmethod
    def sampler(
        self,
        split: str,
        *,
        seed: int,
        meta_batch: int,
        queries: int | None = None,
        too_few: TooFew | None = None,
    ) -> EpisodeSampler[Plan]:
        """Return the sampler of the episodes of `split`.

        Args:
            split: 'train', 'val' or 'test'; their tasks are disjoint.
            seed: the run's seed.
            meta_batch: episodes of an outer step.
            queries: query examples of an episode; `data.queries` by default.
            too_few: what to do with tasks of fewer examples; `data.too_few` by default.

        Raises:
            UserError: when the split has no such task.
        """

    @abstractmethod
    def read(self, plan: Plan) -> Episode:
        """Return the episode of `plan`.

        Raises:
            UserError: when it cannot be read.
        """

    @abstractmethod
    def bytes_of(self, plan: Plan) -> int:
        """Return an upper bound of the memory that `read` takes for `plan`, in bytes."""

    @property
    def url(self) -> str:
        """The address of the data, for messages; the source's name where it has no data."""
        return str(self.config.model_dump()["name"])

    @property
    def fingerprint(self) -> str:
        """The sha256 of all that decides the tasks, besides the seed."""
        used = {"image_size", "channels", "bits", "shots", "queries", "too_few"}
        decides = self.config.model_dump(mode="json"), self.data.model_dump(include=used)
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()

    @property
    def remarks(self) -> list[str]:
        """Sentences on the data that whoever begins a run should know."""
        return []

    @property
    def snapshot(self) -> bytes | None:
        """The data as it is now, to be kept with a run; None where it cannot change."""
        return None

    def as_of(self, snapshot: bytes) -> Self | None:
        """Return the source as it was, or None where it no longer holds all of `snapshot`."""
        raise NotImplementedError(f"{type(self).__name__} keeps no snapshots")

    def encoded_by(self, codec: str) -> Self:
        """Return the source with latents for images, where the data has those of a codec.

        Flips and crops of images have no latents: a source that makes some has none to give.

        Args:
            codec: sha256 of the codec, see `content_hash`.

        Raises:
            UserError: when the latents are another codec's, or of images of another size.
        """
        return self

    def refuse_enlarging(self, size: int) -> None:
        """Refuse data whose images would have to be enlarged to `size` pixels, which blurs.

        Raises:
            UserError: naming both sizes.
        """

    def task_images(self, split: str, size: int, channels: int) -> Iterator[Tensor]:
        """Yield images [N, C, H, W] of one task after the other, to learn to tell tasks apart.

        Args:
            split: the tasks to take.
            size: height and width in pixels.
            channels: 1 for grey, 3 for RGB, 4 for RGBA.
        """
        sampler: EpisodeSampler[Any] = self.sampler(split, seed=0, meta_batch=1, too_few="skip")
        count = min(_METRIC_TASKS, sampler.epoch or _METRIC_TASKS)
        for step in tracked("reading tasks", range(count), count):
            episode = self.read(sampler.plan(step, slot=0))
            yield torch.cat([episode.support.target, episode.query.target])
