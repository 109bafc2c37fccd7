"""Planning the episodes of classes: the images of each, before any is read."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.episode_config import TooFew
from metatrain.data.packed.store import Task
from metatrain.data.tasks.random_streams import IMAGES, random_stream, stream_key, turn_of


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
        episode = step * self.meta_batch + slot
        task = self.tasks[turn_of(self._key, episode, len(self.tasks))]
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


def _usable(tasks: list[Task], wanted: int, split: str, too_few: TooFew) -> list[Task]:
    least = 2 if too_few == "repeat" else wanted
    small = [task for task in tasks if task.count < least]
    if small and too_few != "skip":
        names = ", ".join(f"'{printable(task.name)}' ({task.count})" for task in small[:5])
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
