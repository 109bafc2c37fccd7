"""The fixed list of episodes that every system is scored on.

A list is a file. For each episode it names the support images of a task, the reference images, the
held-out images that stand for a perfect generator, and the seed of all noise. It follows from the
data set and the split: packing the same data gives the same file, with the same sha256.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.base.text import printable
from metatrain.data.packed.store import EpisodeStore, Task
from metatrain.data.tasks.class_sampler import ClassPlan, ClassSampler
from metatrain.evaluation.episodes.published import PUBLISHED
from metatrain.storage.files import read_file

FORMAT = "metatrain-episodes-1"


class Shape(NamedTuple):
    """The numbers of an episode's images.

    Attributes:
        support: images that a system may be given. A list with fewer shots has the first of them,
            so that a curve over K has the same tasks and the same reference images.
        images: reference, held-out and sampled images, as many of each, since some scores depend on
            the size of the sample.
    """

    support: int
    images: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """The numbers of support, reference and held-out images."""
        return self.support, self.images, self.images


# A list has the first of which two tasks have enough images.
SHAPES = (Shape(support=8, images=4), Shape(support=3, images=2))
# Every seed selects other images of each task.
SEEDS = 3

_WRITE_AGAIN = "write the list of this data set again"

Indices = tuple[Annotated[int, Field(ge=0)], ...]


class ListedEpisode(Section):
    """One episode: different images by their index within the task.

    Attributes:
        seed: the seed of the list that selected the images.
        task: the task's name.
        support: the images that a system is given; for K shots, the first K.
        reference: the images to compare its samples with.
        held_out: real images to score in place of samples, as the ceiling.
        noise: the seed of everything that a system samples.
    """

    seed: int
    task: str
    support: Indices
    reference: Indices
    held_out: Indices
    noise: Annotated[int, Field(ge=0, lt=2**62)]

    def plan(self, task: Task, shots: int) -> ClassPlan:
        """Return the plan of the episode; its query is the reference, then the held-out images."""
        return ClassPlan(task, self.support[:shots], self.reference + self.held_out, self.noise)

    @property
    def counts(self) -> tuple[int, int, int]:
        """The numbers of support, reference and held-out images."""
        return len(self.support), len(self.reference), len(self.held_out)


class EpisodeList(Section):
    """The episodes of a benchmark, seed after seed, each with the same tasks in the same order.

    Attributes:
        format: format of the file.
        benchmark: the benchmark's name; for unpublished data, the name of the data set's folder.
        data: sha256 of the data set's manifest.
        split: the split of the tasks.
        episodes: the episodes, in order.
    """

    format: str = FORMAT
    benchmark: str
    data: str
    split: str
    episodes: tuple[ListedEpisode, ...]

    def content(self) -> bytes:
        """Return the content of the list's file; equal lists have equal bytes."""
        values = self.model_dump(mode="json")
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @property
    def sha256(self) -> str:
        """The sha256 of the list's file."""
        return hashlib.sha256(self.content()).hexdigest()

    @property
    def published(self) -> bool:
        """Whether metatrain publishes this list."""
        return PUBLISHED.get(self.data, ("", ""))[1] == self.sha256

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks, in order."""
        return list(dict.fromkeys(episode.task for episode in self.episodes))

    @property
    def shape(self) -> Shape:
        """The shape of the episodes."""
        counts = {episode.counts for episode in self.episodes}
        return next((shape for shape in SHAPES if shape.counts in counts), SHAPES[0])

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len({episode.seed for episode in self.episodes})

    def first(self, tasks: int, seeds: int) -> "EpisodeList":
        """Return the list of the first `tasks` tasks and `seeds` seeds."""
        kept = set(self.tasks[:tasks])
        episodes = [e for e in self.episodes if e.task in kept and e.seed < seeds]
        return self.model_copy(update={"episodes": tuple(episodes)})


def list_episodes(store: EpisodeStore, split: str) -> EpisodeList:
    """Derive the list of a data set: every task of `split` that has enough images.

    Raises:
        UserError: when fewer than two tasks have enough images.
    """
    tasks = store.tasks(split)
    shape = _shape_for(tasks, f"split '{split}' of {store.url}")
    samplers = [
        ClassSampler(
            tasks,
            shots=shape.support,
            queries=2 * shape.images,
            meta_batch=1,
            seed=seed,
            split=f"evaluation/{split}",
            too_few="skip",
        )
        for seed in range(SEEDS)
    ]
    episodes = [episode for s, sampler in enumerate(samplers) for episode in _listed(sampler, s)]
    # The shuffled order of the first seed, so that the first few tasks are a random sample.
    order = {episode.task: i for i, episode in enumerate(episodes[: len(samplers[0].tasks)])}
    episodes.sort(key=lambda episode: (episode.seed, order[episode.task]))
    return EpisodeList(
        benchmark=benchmark_name(store),
        data=store.fingerprint,
        split=split,
        episodes=tuple(episodes),
    )


def _shape_for(tasks: Sequence[Task], name: str) -> Shape:
    for shape in SHAPES:
        if sum(task.count >= sum(shape.counts) for task in tasks) >= 2:
            return shape
    raise UserError(
        f"{name} has fewer than two tasks with {sum(SHAPES[-1].counts)} images, and scores need "
        f"two; pack more images or more tasks."
    )


def _listed(sampler: ClassSampler, seed: int) -> list[ListedEpisode]:
    """List one episode of each task."""
    images = sampler.queries // 2
    plans = [sampler.plan(step, slot=0) for step in range(len(sampler.tasks))]
    return [
        ListedEpisode(
            seed=seed,
            task=plan.task.name,
            support=plan.support,
            reference=plan.query[:images],
            held_out=plan.query[images:],
            noise=plan.seed,
        )
        for plan in plans
    ]


def benchmark_name(store: EpisodeStore) -> str:
    """Return the benchmark's name of a data set; for unpublished data, the name of its folder."""
    return PUBLISHED.get(store.fingerprint, (store.url.rpartition("/")[2], ""))[0]


def read_list(url: str, store: EpisodeStore) -> EpisodeList:
    """Read the list in a file that was written for the data set in `store`.

    Raises:
        UserError: when there is no such file, or it is no list, damaged, or a list of other data.
    """
    try:
        episodes = EpisodeList.model_validate_json(read_file(url))
    except ValidationError as error:
        raise UserError(
            f"{url} is not a list of episodes, or is damaged: {_first(error)}; {_WRITE_AGAIN}."
        ) from error
    if episodes.format != FORMAT:
        raise UserError(
            f"{url} has the format {episodes.format}, and this metatrain reads {FORMAT}; "
            f"{_WRITE_AGAIN}."
        )
    if episodes.data != store.fingerprint:
        raise UserError(
            f"{url} lists episodes of data with sha256 {episodes.data[:12]}, and {store.url} has "
            f"{store.fingerprint[:12]}; name the data that the list was made for."
        )
    _check(episodes, store, url)
    return episodes


def read_or_derive_list(url: str | None, store: EpisodeStore, split: str) -> EpisodeList:
    """Read the list in the file `url`, or derive that of `split` if `url` is None.

    Raises:
        UserError: see `read_list` and `list_episodes`.
    """
    return read_list(url, store) if url else list_episodes(store, split)


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    return f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"


def _check(episodes: EpisodeList, store: EpisodeStore, url: str) -> None:
    """Check that the data set has all listed images, and that no support image is scored.

    Raises:
        UserError: when an image is missing or listed twice, or seeds differ in their tasks.
    """
    counts = {task.name: task.count for task in store.tasks(episodes.split)}
    tasks = episodes.tasks
    if [e.task for e in episodes.episodes] != tasks * episodes.seeds or len(tasks) < 2:
        raise UserError(
            f"{url} does not have the same two tasks or more in each of its seeds; {_WRITE_AGAIN}."
        )
    shape = episodes.shape
    for episode in episodes.episodes:
        fault = _fault(episode, shape, counts.get(episode.task, 0))
        if fault:
            raise UserError(f"{url} {fault} of task '{printable(episode.task)}'; {_WRITE_AGAIN}.")


def _fault(episode: ListedEpisode, wanted: Shape, count: int) -> str:
    """Name the fault of an episode of a task with `count` images; '' if there is none."""
    if episode.counts != wanted.counts:
        counts = f"{episode.counts} support, reference and held-out images"
        return f"lists {counts}, not {wanted.counts},"
    images = [*episode.support, *episode.reference, *episode.held_out]
    if len(set(images)) < len(images):
        return "lists an image twice in one episode"
    return "lists images that the data set lacks" if max(images) >= count else ""
