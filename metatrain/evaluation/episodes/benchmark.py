"""The images of a list of episodes, at the size that the systems sample."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.data.decoding.grey_16 import Bits
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.evaluation.episodes.episode_list import SHAPES, EpisodeList


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The images of some episodes, in [-1, 1], for S seeds of T tasks.

    Attributes:
        episodes: the list of the episodes.
        support: the images that a system is given, [S, T, K, C, H, W].
        reference: real images to compare its samples with, [S, T, N, C, H, W].
        held_out: further real images, [S, T, N, C, H, W].
        bits: of a channel of the data.
    """

    episodes: EpisodeList
    support: Tensor
    reference: Tensor
    held_out: Tensor
    bits: Bits = 8

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return self.episodes.tasks

    @property
    def shots(self) -> int:
        """The number of support images of an episode (K)."""
        return self.support.shape[2]

    @property
    def images(self) -> int:
        """The number of images that a system samples of an episode (N)."""
        return self.reference.shape[2]


def _more_images(listed: int) -> str:
    larger = SHAPES[0]
    if listed >= larger.support:
        return ""
    return f", or a data set with at least two tasks of {sum(larger.counts)} images in this split"


def read_benchmark(
    store: EpisodeStore,
    episodes: EpisodeList,
    *,
    shots: int | None,
    image_size: int,
    channels: int,
) -> Benchmark:
    """Read and decode the images that `episodes` list.

    Args:
        store: the data set.
        episodes: the episodes to read.
        shots: support images of an episode; by default all that are listed.
        image_size: height and width to bring the images to, in pixels.
        channels: 1 for grey, 3 for RGB, 4 for RGBA.

    Raises:
        UserError: when the data cannot be read or has smaller images, or fewer than `shots`
            support images are listed.
    """
    store.refuse_enlarging(image_size)
    listed = episodes.shape.support
    shots = listed if shots is None else shots
    if shots > listed:
        raise UserError(
            f"these episodes have up to {listed} shots, not {shots}; "
            f"choose {listed} shots or fewer{_more_images(listed)}."
        )
    tasks = {task.name: task for task in store.tasks(episodes.split)}
    reader = ClassReader(store, image_size, channels)
    supports, queries = [], []
    for entry in tracked("reading episodes", episodes.episodes, len(episodes.episodes)):
        episode = reader.read(entry.plan(tasks[entry.task], shots))
        supports.append(episode.support.target)
        queries.append(episode.query.target)
    support = torch.stack(supports).unflatten(0, (episodes.seeds, -1))
    query = torch.stack(queries).unflatten(0, (episodes.seeds, -1))
    reference, held_out = query.tensor_split((len(episodes.episodes[0].reference),), dim=2)
    return Benchmark(
        episodes=episodes,
        support=support,
        reference=reference,
        held_out=held_out,
        bits=store.bits,
    )
