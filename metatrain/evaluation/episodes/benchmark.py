"""What a list of episodes comes to in images, at the size that the systems draw."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.classes import read_episode
from metatrain.evaluation.episodes.episode_list import SHOTS, EpisodeList


@dataclass(frozen=True)
class Benchmark:
    """Episodes with their images, all in [-1, 1], S seeds of T tasks.

    Attributes:
        episodes: the list they are from.
        shots: images given to a system (K).
        support: [S, T, K, C, H, W].
        reference: [S, T, N, C, H, W].
        held_out: [S, T, N, C, H, W].
    """

    episodes: EpisodeList
    shots: int
    support: Tensor
    reference: Tensor
    held_out: Tensor

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return self.episodes.tasks

    @property
    def images(self) -> int:
        """Images drawn of each episode (N)."""
        return self.reference.shape[2]


def read_benchmark(
    store: EpisodeStore, episodes: EpisodeList, shots: int | None, size: int, channels: int
) -> Benchmark:
    """Read and decode all that `episodes` name, at so many pixels and channels.

    Args:
        store: the data set.
        episodes: what to read.
        shots: how many of the listed support images are given; all by default.
        size: height and width to bring the images to.
        channels: 1 for grey, 3 for RGB.

    Raises:
        UserError: when the data cannot be read or has smaller images, or there are not so many
            shots.
    """
    store.refuse_enlarging(size)
    shots = max(SHOTS) if shots is None else shots
    if shots > max(SHOTS):
        raise UserError(
            f"episodes are listed with up to {max(SHOTS)} shots, and {shots} were asked for; give "
            f"--shots, of which {', '.join(map(str, SHOTS))} are published."
        )
    tasks = {task.name: task for task in store.tasks(episodes.split)}
    progress = Progress("reading episodes", len(episodes.episodes))
    supports, queries = [], []
    for listed in episodes.episodes:
        episode = read_episode(store, listed.plan(tasks[listed.task], shots), size, channels)
        supports.append(episode.support.target)
        queries.append(episode.query.target)
        progress.update(len(queries))
    progress.close()
    support = torch.stack(supports).unflatten(0, (episodes.seeds, -1))
    query = torch.stack(queries).unflatten(0, (episodes.seeds, -1))
    reference, held_out = query.tensor_split((len(episodes.episodes[0].reference),), dim=2)
    return Benchmark(episodes, shots, support, reference, held_out)
