"""The fixed list of episodes that every system is scored on.

A list is a file: which images of which task a system is given, which are the reference, which play
the perfect generator, and from which noise to draw. It follows from the data set and the split, so
anyone who packs the same data has the same file, and its sha256 says so.
"""

import hashlib
import json
from typing import Annotated

from pydantic import Field, ValidationError

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.data.packed.store import EpisodeStore, Task
from metatrain.data.tasks.classes import ClassPlan, ClassSampler
from metatrain.storage.files import read_file

FORMAT = "metatrain-episodes-1"

# The supports that are published. They are nested, so that a curve over K is of the same tasks and
# compares with the same images.
SHOTS = (1, 3, 5, 8)
# Reference images of an episode, held-out ones, and images drawn: as many of each, so that no score
# profits from a larger sample.
IMAGES = 4
# Each draws every task's images anew.
SEEDS = 3

# By the sha256 of a data set's manifest: the benchmark's name, and the sha256 of the list that is
# published for its test split.
PUBLISHED = {
    "9539a0f1813f8371367cd273e39d9a35d4b0afefa29f2dc03d308c8e4f888ecf": (
        "glyphs-28",
        "dcd8e96860e4de03d5366f8a1395c0c65d20060c77f566bd61e87d77a59ecbf5",
    ),
    "3f4cf53939ff511e6eeb4ca75895f8ee0c13ff6df6dda31a8ad3ed37d5e6d398": (
        "glyphs-16",
        "14a29e181fe8e3918414786981bf411fe05cef3b61c708004f56961eb9e570bd",
    ),
    "d521fbdbb1275ae80b08627924a941e6fdf18ef9fbceee7737b1ce757f1c7597": (
        "icons32",
        "934470e34ac2b98f8ef973cb9335b7a2663440f3455300115fc0ff87bdcea5e3",
    ),
    "586ee0c1c902e5c0929408c828885855a2c3a9a87255e9676eb914cc3f1569d4": (
        "icons64",
        "970d25ff5e8bc6b06aee96c9fbc306a0c8dca607febf6f3e3809b3db6111fbf2",
    ),
    "b19e38450c7d887b394f73845b9a08eddb9fdd27d1e057a40d74e29f79e7cf30": (
        "icons32-wide",
        "900bfa07a27a39cfaee605f68df66ab4d1234e33a96b6df46d5f4601141565f0",
    ),
}

Indices = tuple[Annotated[int, Field(ge=0)], ...]


class ListedEpisode(Section):
    """One episode: images by their index within the task, no two the same.

    Attributes:
        seed: which of the list's seeds drew it.
        task: the task's name.
        support: what a system is given; of K shots the first K.
        reference: what its images are compared with.
        held_out: real images in place of a system's, as the ceiling.
        noise: seeds everything that a system draws at random.
    """

    seed: int
    task: str
    support: Indices
    reference: Indices
    held_out: Indices
    noise: Annotated[int, Field(ge=0, lt=2**62)]

    def plan(self, task: Task, shots: int) -> ClassPlan:
        """The episode of so many shots; its query is the reference, then what is held out."""
        return ClassPlan(task, self.support[:shots], self.reference + self.held_out, self.noise)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many images are listed to be given, to compare with, and to be held out."""
        return len(self.support), len(self.reference), len(self.held_out)


class EpisodeList(Section):
    """The episodes of a benchmark, seed after seed, each with the same tasks in the same order.

    Attributes:
        format: of the file.
        benchmark: its name; of data that nobody published, the data set's folder.
        data: sha256 of the data set's manifest.
        split: which tasks.
        episodes: in their order.
    """

    format: str = FORMAT
    benchmark: str
    data: str
    split: str
    episodes: tuple[ListedEpisode, ...]

    def content(self) -> bytes:
        """The list as a file; the same list is the same bytes."""
        values = self.model_dump(mode="json")
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.content()).hexdigest()

    @property
    def published(self) -> bool:
        """Whether this is one of the lists that are published with metatrain."""
        return PUBLISHED.get(self.data, ("", ""))[1] == self.sha256

    @property
    def tasks(self) -> list[str]:
        """The tasks, each once, in their order."""
        return list(dict.fromkeys(episode.task for episode in self.episodes))

    @property
    def seeds(self) -> int:
        """How many seeds drew the tasks' images."""
        return len({episode.seed for episode in self.episodes})

    def first(self, tasks: int, seeds: int) -> "EpisodeList":
        """Only the first so many tasks and seeds, for a quick look."""
        kept = set(self.tasks[:tasks])
        episodes = [e for e in self.episodes if e.task in kept and e.seed < seeds]
        return self.model_copy(update={"episodes": tuple(episodes)})


def list_episodes(store: EpisodeStore, split: str) -> EpisodeList:
    """The list of the data set in `store`: every task of `split` that has images enough.

    Raises:
        UserError: when fewer than two tasks have.
    """
    queries = 2 * IMAGES
    samplers = [
        ClassSampler(
            store.tasks(split),
            shots=max(SHOTS),
            queries=queries,
            meta_batch=1,
            seed=seed,
            split=f"evaluation/{split}",
            too_few="skip",
        )
        for seed in range(SEEDS)
    ]
    if len(samplers[0].tasks) < 2:
        raise UserError(
            f"split '{split}' of {store.url} has one task only with {max(SHOTS) + queries} images; "
            f"scores need at least two."
        )
    episodes = [episode for s, sampler in enumerate(samplers) for episode in _drawn(sampler, s)]
    # In the shuffled order of the first seed, so that the first few tasks are a fair sample.
    order = {episode.task: i for i, episode in enumerate(episodes[: len(samplers[0].tasks)])}
    episodes.sort(key=lambda episode: (episode.seed, order[episode.task]))
    return EpisodeList(
        benchmark=benchmark_of(store),
        data=store.fingerprint,
        split=split,
        episodes=tuple(episodes),
    )


def _drawn(sampler: ClassSampler, seed: int) -> list[ListedEpisode]:
    """One episode of each task."""
    plans = [sampler.plan(step, slot=0) for step in range(len(sampler.tasks))]
    return [
        ListedEpisode(
            seed=seed,
            task=plan.task.name,
            support=plan.support,
            reference=plan.query[:IMAGES],
            held_out=plan.query[IMAGES:],
            noise=plan.seed,
        )
        for plan in plans
    ]


def benchmark_of(store: EpisodeStore) -> str:
    """The name of the data set in `store`; of one that nobody published, its folder."""
    return PUBLISHED.get(store.fingerprint, (store.url.rpartition("/")[2], ""))[0]


def read_list(url: str, store: EpisodeStore) -> EpisodeList:
    """The list in a file that was made for the data set in `store`.

    Raises:
        UserError: when there is none, it is none, or it is for other data.
    """
    try:
        found = EpisodeList.model_validate_json(read_file(url))
    except ValidationError as error:
        raise UserError(f"{url} is no list of episodes, or is damaged: {_first(error)}.") from error
    if found.format != FORMAT:
        raise UserError(f"{url} is of format {found.format}; this metatrain reads {FORMAT}.")
    if found.data != store.fingerprint:
        raise UserError(
            f"{url} lists episodes of data with sha256 {found.data[:12]}, and {store.url} has "
            f"{store.fingerprint[:12]}; name the data that the list was made for."
        )
    _check(found, store, url)
    return found


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    return f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"


def _check(episodes: EpisodeList, store: EpisodeStore, url: str) -> None:
    """That all of it can be read, and that nothing that is given away is scored."""
    counts = {task.name: task.count for task in store.tasks(episodes.split)}
    tasks = episodes.tasks
    if [e.task for e in episodes.episodes] != tasks * episodes.seeds or len(tasks) < 2:
        raise UserError(f"{url} does not have the same two tasks or more in each of its seeds.")
    for episode in episodes.episodes:
        images = [*episode.support, *episode.reference, *episode.held_out]
        if len(set(images)) < len(images):
            raise UserError(f"{url} has an image of task '{episode.task}' twice in one episode.")
        if max(images) >= counts.get(episode.task, 0):
            raise UserError(f"{url} lists images of '{episode.task}' that {store.url} lacks.")
        if episode.counts != (max(SHOTS), IMAGES, IMAGES):
            raise UserError(
                f"{url} lists {episode.counts} images of '{episode.task}' to be given, to compare "
                f"with and to be held out; they must be {(max(SHOTS), IMAGES, IMAGES)}."
            )
