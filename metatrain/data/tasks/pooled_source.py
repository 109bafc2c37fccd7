"""Task sources that make tasks of packed images, whatever those were packed as."""

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import TypeVar

from typing_extensions import override

from metatrain.data.episode_config import EpisodeConfig, TooFew
from metatrain.data.episodes import Episode
from metatrain.data.packed.store import EpisodeStore, ImagePlace
from metatrain.data.tasks.class_sampler import ClassPlan
from metatrain.data.tasks.classes import Classes
from metatrain.data.tasks.packed_source import PackedSource
from metatrain.data.tasks.sections import ClassesConfig, PooledConfig
from metatrain.data.tasks.source import EpisodeSampler

C = TypeVar("C", bound=PooledConfig)


@dataclass(frozen=True)
class PooledPlan:
    """An episode of pooled images.

    Attributes:
        name: of the task.
        images: the images that are read.
        shots: examples of the support.
        queries: examples of the query.
        seed: seeds all further randomness of the episode.
    """

    name: str
    images: tuple[ImagePlace, ...]
    shots: int
    queries: int
    seed: int


class PooledSource(PackedSource[C, PooledPlan | ClassPlan]):
    """A source of tasks of pooled images; splits that are not pooled keep their classes.

    So a run without labels is validated and evaluated on the same tasks as one with them.

    Args:
        config: the source's section of the configuration.
        data: the rest of section `data`.
        store: the data set; by default the one at `data.path`, with its cache on this node.

    Raises:
        UserError: when the data set or the cache cannot be used.
    """

    def __init__(self, config: C, data: EpisodeConfig, store: EpisodeStore | None = None) -> None:
        super().__init__(config, data, store)
        self._classes = Classes(ClassesConfig(), data, self.store)
        self.reader = self._classes.reader

    @abstractmethod
    def pooled_sampler(
        self, split: str, *, seed: int, meta_batch: int, queries: int
    ) -> EpisodeSampler[PooledPlan]:
        """Return the sampler of a pooled split; arguments as those of `sampler`.

        Raises:
            UserError: when the split has no task.
        """

    @abstractmethod
    def read_pooled(self, plan: PooledPlan) -> Episode:
        """Return the episode of a plan of pooled images.

        Raises:
            UserError: when it cannot be read.
        """

    @override
    def sampler(
        self,
        split: str,
        *,
        seed: int,
        meta_batch: int,
        queries: int | None = None,
        too_few: TooFew | None = None,
    ) -> EpisodeSampler[PooledPlan] | EpisodeSampler[ClassPlan]:
        if split in self.config.splits:
            count = self.data.queries if queries is None else queries
            return self.pooled_sampler(split, seed=seed, meta_batch=meta_batch, queries=count)
        return self._classes.sampler(
            split, seed=seed, meta_batch=meta_batch, queries=queries, too_few=too_few
        )

    @override
    def read(self, plan: PooledPlan | ClassPlan) -> Episode:
        return self._classes.read(plan) if isinstance(plan, ClassPlan) else self.read_pooled(plan)

    @override
    def bytes_of(self, plan: PooledPlan | ClassPlan) -> int:
        if isinstance(plan, ClassPlan):
            return self._classes.bytes_of(plan)
        decoded = 4 * self.data.channels * self.data.image_size**2
        return self.reader.bytes_of(plan.images) + 3 * (plan.shots + plan.queries) * decoded

    @property
    @override
    def fingerprint(self) -> str:
        decides = [super().fingerprint, self.store.fingerprint]
        return hashlib.sha256("/".join(decides).encode()).hexdigest()
