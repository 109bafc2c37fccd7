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

# By the sha256 of a data set's manifest: the benchmark's name, and the sha256 of the published list
# of its test split.
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
    "cecdfa868cff7392a05d6e10fd916ed21e5bf4fa50027825628f9a6cc504c705": (
        "emoji-64",
        "bc7aa28bc44a1687b8fd5f0b97ff0453cbec97b0d21a26c03c5077b7f2e5c3f5",
    ),
    "98829dd1d1ddf91a32316ff8c8901f49dd9a7e58cbe8fe33dcef444f1e83f941": (
        "emoji-64-hand",
        "479cf5d13b895063a86ca072f14919a5dcccea4beec63b3fb6528067d3feef82",
    ),
    "0f20ca2117568fa64071eb767b36ebca3571b1a5299116615d4d67a611cf9f5b": (
        "emoji-64-new-hand",
        "7e9aad2b46a1a5698aca72f245e98aff905a0f293811286c9c75c61b732dd6a5",
    ),
    "2feedd5dc0a62cbe435d894d08006877cee830198464470195600f89213b7e07": (
        "emoji-32",
        "86510a4c5ae56424e1972e6890233c0eb93a1851a385d0240416fab212e3eefb",
    ),
    "8dec7e9e5b1c2a3b6634749d925f7757793ae16d2d6dd0851fdef8456fa4c8dd": (
        "emoji-32-hand",
        "205aab5746b3596767c97e795c0fc78b12dfa549a8424ae2a74317084661c8de",
    ),
    "9e460d059ddd81783e6708717c75159bb49f3c4de388ab6e2f120383f7f77d8a": (
        "emoji-32-new-hand",
        "6a12878cf0aff8e4ba2801b13b962dba74f9e174a3fcc8a0048cd57ee377888c",
    ),
    "840f31d5b55d91f2c4257b2ff3e8209b3493eddf4b61af01776a47948fa07cff": (
        "emoji-64-rgba",
        "0f18e247133c7ab0c11ed6917eb911f12742a5da073a91d993f26258ead4d049",
    ),
    "52b8a4ae3ef3d724074d49bc385aecfbc01b33556a7899d08bf68102472f9f26": (
        "emoji-64-hand-rgba",
        "a4bab16312ab8bda89b7c3e4bd573712f47e32e957f8d2f29407417e2ccdca3a",
    ),
    "095a3e4b9bd194640df750e94e4f589a156626a0a31f2967a2ad7004b2379ffb": (
        "emoji-64-new-hand-rgba",
        "91ff6f3e47655da5fa8f92c6fef640acc7c9ebb645861eedf0b1745468015a59",
    ),
    "44476d3ac207676c87e2881b733948936b753ce931974ad4aa6321d26b5c291c": (
        "emoji-128",
        "3f5e2234daece79ba2b50196f04c036feb4af4855a723d777a646afd5262b728",
    ),
    "7a992da340d30b08fe6afcbfe78e44179009c2b53efc74a267e2722fd77547c7": (
        "emoji-128-hand",
        "8c8b5d3476d521eb002066d158a3e81eda37443387209c5933ecd97a891681e8",
    ),
    "ea050adafd298a7be0df2e8b73a655c7692f088118e837c49ed1867c04cf8b10": (
        "emoji-128-new-hand",
        "d836a33cc9848adbf382440c2f6192b062878922f1b553f87465bd137cbc4e23",
    ),
}

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
