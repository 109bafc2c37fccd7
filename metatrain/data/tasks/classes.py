"""Episodes of classes of packed images.

``episode = f(seed, split, step, slot)``. Nothing is remembered between calls, so the same episodes
come at any world size, and resuming needs nothing but the step.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from metatrain.base.errors import UserError
from metatrain.data.config import TooFew
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.images import BadImage
from metatrain.data.packed.store import EpisodeStore, Task
from metatrain.data.pictures import decode
from metatrain.data.tasks.random_streams import _IMAGES, _generator, _key, _permutation


@dataclass(frozen=True)
class EpisodePlan:
    """What one episode consists of, before a byte of it is read.

    Attributes:
        task: the task that all images come from.
        support: indices of the support images within the task, `shots` of them.
        query: indices of the query images, disjoint from `support`.
        seed: seeds everything that is random about the episode from here on.
    """

    task: Task
    support: tuple[int, ...]
    query: tuple[int, ...]
    seed: int

    @property
    def images(self) -> tuple[int, ...]:
        """Indices of the support and the query images."""
        return self.support + self.query


class EpisodeSampler:
    """Plans the episodes of one split.

    Every task comes once before any comes twice: outer step after outer step walks through a
    permutation of the tasks that is keyed by seed, split and epoch.

    Where images of a task share sources, no source is in both the support and the query, if that
    leaves either its images: what is learned from some must hold for others.

    Args:
        tasks: the tasks of the split.
        shots: support images of an episode (K).
        queries: query images of an episode.
        meta_batch: episodes of an outer step.
        seed: the run's seed.
        split: name of the split; part of the key, so that splits draw independently.
        too_few: what becomes of a task with fewer than `shots + queries` images: `refuse` it,
            `skip` it, or `repeat` images within the support and within the query.

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
        self._key = _key(seed, split)

    def plan(self, step: int, slot: int) -> EpisodePlan:
        """The episode of `slot` (0 <= slot < meta_batch) in outer step `step`."""
        epoch, position = divmod(step * self.meta_batch + slot, len(self.tasks))
        task = self.tasks[_permutation(self._key, epoch, len(self.tasks))[position]]
        draws = _generator(self._key, _IMAGES, step, slot)
        order = draws.permutation(task.count)
        support, query = self._divide(order, task.sources)
        return EpisodePlan(task, support, query, int(draws.integers(2**62)))

    def _divide(
        self, order: np.ndarray, sources: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The support and the query among a task's shuffled images, each filled by repeating."""
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


def read_episode(store: EpisodeStore, plan: EpisodePlan, size: int, channels: int) -> Episode:
    """Read and decode what `plan` names.

    Raises:
        UserError: when the store cannot be read, or hands out something else than was packed.
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
    """`order` with `support` images in front whose sources none of the next `query` images shares.

    The order decides as far as it can: the support claims one source after the other as they
    come, but none without which too few images were left to the query. Where it runs out of images
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
