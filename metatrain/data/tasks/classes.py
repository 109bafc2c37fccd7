"""Episodes of classes: every task is a class of packed images."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.data.episode_config import EpisodeConfig, TooFew
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.images import BadImage
from metatrain.data.packed.store import EpisodeStore, Task
from metatrain.data.pictures import decode
from metatrain.data.tasks.random_streams import IMAGES, permutation, random_stream, stream_key
from metatrain.data.tasks.source import TaskSource
from metatrain.storage.disk_cache import DiskCache


@dataclass(frozen=True)
class ClassPlan:
    """The images of one episode.

    Attributes:
        task: the task of all images.
        support: indices of the support images within the task, `shots` of them.
        query: indices of the query images, disjoint from `support`.
        seed: seeds all further randomness of the episode.
    """

    task: Task
    support: tuple[int, ...]
    query: tuple[int, ...]
    seed: int

    @property
    def images(self) -> tuple[int, ...]:
        """Indices of the support and the query images."""
        return self.support + self.query


class ClassSampler:
    """Plans of the episodes of one split.

    Every task comes once before any comes twice: the outer steps walk through a permutation of the
    tasks, under a key of seed and split, in each epoch another one.

    Where images of a task share sources, no source is in both the support and the query, if that
    leaves each its images: what is learned from one source must hold for another.

    Args:
        tasks: the tasks of the split.
        shots: support images of an episode (K).
        queries: query images of an episode.
        meta_batch: episodes of an outer step.
        seed: the run's seed.
        split: name of the split; part of the key, so that splits are sampled independently.
        too_few: for a task with fewer than `shots + queries` images: `refuse` it, `skip` it, or
            `repeat` images within the support and within the query.

    Raises:
        UserError: when a task has too few images and `too_few` is `refuse`, or no task is left.
    """

    def __init__(
        self,
        tasks: list[Task],
        *,
        shots: int,
        queries: int,
        meta_batch: int,
        seed: int,
        split: str,
        too_few: TooFew = "refuse",
    ) -> None:
        self.shots, self.queries, self.meta_batch = shots, queries, meta_batch
        self.tasks = _usable(tasks, shots + queries, split, too_few)
        self._key = stream_key(seed, split)

    @property
    def epoch(self) -> int:
        """The number of tasks, and of the episodes in which each comes once."""
        return len(self.tasks)

    def plan(self, step: int, slot: int) -> ClassPlan:
        """Return the plan of `slot` (0 <= slot < meta_batch) in outer step `step`."""
        epoch, position = divmod(step * self.meta_batch + slot, len(self.tasks))
        task = self.tasks[permutation(self._key, epoch, len(self.tasks))[position]]
        stream = random_stream(self._key, IMAGES, step, slot)
        order = stream.permutation(task.count)
        support, query = self._divide(order, task.sources)
        return ClassPlan(task, support, query, int(stream.integers(2**62)))

    def _divide(
        self, order: np.ndarray, sources: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Divide a task's shuffled images into support and query, each filled by repeating."""
        wanted = self.shots + self.queries
        # A task too small for both gives each side its share, and never an image to both.
        share = min(self.shots, max(1, len(order) * self.shots // wanted))
        if sources:
            order = _apart(order, sources, share, min(self.queries, len(order) - share))
        support, query = order[:share], order[share:][: self.queries]
        return (
            tuple(int(i) for i in np.resize(support, self.shots)),
            tuple(int(i) for i in np.resize(query, self.queries)),
        )


class ClassesConfig(Section):
    """Classes of the packed data set at `data.path`."""

    name: Literal["classes"] = "classes"


class Classes(TaskSource[ClassesConfig, ClassPlan]):
    """Classes of packed images.

    Args:
        config: the source's section of the configuration.
        data: the rest of section `data`.
        store: the data set; by default the one at `data.path`, with its cache on this node.

    Raises:
        UserError: when the data set or the cache cannot be used.
    """

    Config = ClassesConfig
    reads_packed = True

    def __init__(
        self, config: ClassesConfig, data: EpisodeConfig, store: EpisodeStore | None = None
    ) -> None:
        super().__init__(config, data)
        self.store = store or _open_store(data)
        self.traffic = self.store.traffic

    @override
    def sampler(
        self,
        split: str,
        *,
        seed: int,
        meta_batch: int,
        queries: int | None = None,
        too_few: TooFew | None = None,
    ) -> ClassSampler:
        return ClassSampler(
            self.store.tasks(split),
            shots=self.data.shots,
            queries=self.data.queries if queries is None else queries,
            meta_batch=meta_batch,
            seed=seed,
            split=split,
            too_few=too_few or self.data.too_few,
        )

    @override
    def read(self, plan: ClassPlan) -> Episode:
        return read_episode(self.store, plan, self.data.image_size, self.data.channels)

    @override
    def bytes_of(self, plan: ClassPlan) -> int:
        values = len(plan.images) * self.data.channels * self.data.image_size**2
        return self.store.bytes_of(plan.task, plan.images) + 4 * values

    @property
    @override
    def url(self) -> str:
        return self.store.url

    @property
    @override
    def fingerprint(self) -> str:
        return self.store.fingerprint

    @property
    @override
    def snapshot(self) -> bytes:
        return self.store.manifest

    @override
    def as_of(self, snapshot: bytes) -> Self | None:
        then = _open_store(self.data, snapshot)
        if not set(then.row_groups) <= set(self.store.row_groups):
            return None
        return type(self)(self.config, self.data, then)

    @override
    def refuse_enlarging(self, size: int) -> None:
        self.store.refuse_enlarging(size)

    @override
    def task_images(self, split: str, size: int, channels: int) -> Iterator[Tensor]:
        return self.store.task_images(split, size, channels)


def _open_store(data: EpisodeConfig, manifest: bytes | None = None) -> EpisodeStore:
    cache = DiskCache(data.cache_dir, data.cache_bytes) if data.cache_dir else None
    return EpisodeStore(data.path, cache, manifest)


def read_episode(store: EpisodeStore, plan: ClassPlan, size: int, channels: int) -> Episode:
    """Read and decode the images of `plan`.

    Raises:
        UserError: when the store cannot be read, or its bytes are not those that were packed.
    """
    encoded = store.read(plan.task, plan.images)
    try:
        images = decode(encoded, size, channels)
    except BadImage as error:
        raise UserError(
            f"task '{plan.task.name}' in {store.url} has an image that cannot be used "
            f"({error}); pack it again."
        ) from error
    support, query = Examples(images).split(len(plan.support))
    return Episode(plan.task.name, support, query, plan.seed)


def _usable(tasks: list[Task], wanted: int, split: str, too_few: TooFew) -> list[Task]:
    least = 2 if too_few == "repeat" else wanted
    small = [task for task in tasks if task.count < least]
    if small and too_few != "skip":
        names = ", ".join(f"'{task.name}' ({task.count})" for task in small[:5])
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        raise UserError(
            f"an episode needs {least} images of its task, which these tasks of split '{split}' "
            f"do not have: {names}{more}; lower data.shots or data.queries, or set data.too_few "
            f"to 'skip'" + ("." if too_few == "repeat" else " or 'repeat'.")
        )
    usable = [task for task in tasks if task.count >= least]
    if not usable:
        raise UserError(f"split '{split}' has no task with {least} images; pack more images.")
    return usable


def _apart(order: np.ndarray, sources: tuple[int, ...], support: int, query: int) -> np.ndarray:
    """Return `order` with `support` images in front that share no source with the next `query`.

    The order decides as far as it can: the support claims one source after the other as they
    come, but none that would leave too few images for the query. Where it runs out of images
    before it is complete, `order` stays as it is.
    """
    sizes, claimed, left = Counter(sources), set[int](), len(order)
    taken: list[int] = []
    for image in order:
        source = sources[image]
        if source not in claimed and left - sizes[source] >= query:
            claimed.add(source)
            left -= sizes[source]
        if source in claimed:
            taken.append(image)
        if len(taken) == support:
            return np.array(taken + [i for i in order if sources[i] not in claimed])
    return order
