"""Episodes as folders of pictures, for systems that are not ours: what they are given, and draw.

`SEED/TASK/support/0.png ...` is what a system is given, `SEED/TASK/0.png ...` what it drew of it;
tasks are numbered as the list has them.
"""

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.data.images import BadImage, normalise, shape_of
from metatrain.data.pictures import decode, png
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.episodes.episode_list import EpisodeList
from metatrain.storage.files import MissingError, read_file, sizes_under, write_file

LIST = "episodes.json"


def export(benchmark: Benchmark, whole: EpisodeList, folder: str) -> None:
    """Write the support of every episode, and the list, under `folder`, a path or fsspec URL.

    Raises:
        UserError: when something cannot be written.
    """
    episodes = benchmark.episodes.episodes
    progress = Progress("writing supports", len(episodes))
    for i, support in enumerate(benchmark.support.flatten(0, 1)):
        seed, task = divmod(i, len(benchmark.tasks))
        for n, image in enumerate(support):
            write_file(f"{folder}/{_place(seed, task)}/support/{n}.png", png(image))
        progress.update(i + 1)
    progress.close()
    write_file(f"{folder}/{LIST}", whole.content())


def shape_of_samples(folder: str) -> tuple[int, int]:
    """Size and channels of the images under `folder`, by the first of them.

    Raises:
        UserError: when there is none, or it is not square or no image at all.
    """
    url = f"{folder}/{_place(0, 0)}/0.png"
    try:
        height, width, channels = shape_of(normalise(read_file(url)).data)
    except MissingError as error:
        raise UserError(
            f"there are no samples in {folder}; the first is to be at {url}, drawn from a support "
            f"that metatrain episodes DATA --export DIR writes."
        ) from error
    except BadImage as error:
        raise UserError(f"{url} cannot be used: {error}.") from error
    if height != width:
        raise UserError(f"{url} is {width} x {height} pixels; samples must be square.")
    return height, channels


def read_samples(folder: str, benchmark: Benchmark) -> Tensor:
    """What another system drew of the episodes of `benchmark`, [S, T, N, C, H, W] in [-1, 1].

    Raises:
        UserError: when an image is missing, cannot be used, or is of another size.
    """
    seeds, tasks, count, *shape = benchmark.reference.shape
    there = sizes_under(folder)
    names = [
        f"{_place(seed, task)}/{n}.png"
        for seed in range(seeds)
        for task in range(tasks)
        for n in range(count)
    ]
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of {len(names)} images, the first of them "
            f"{missing[0]}; draw {count} images of every episode."
        )
    progress = Progress("reading samples", len(names))
    images = []
    for name in names:
        images.append(_read(f"{folder}/{name}", shape))
        progress.update(len(images))
    progress.close()
    return torch.cat(images).view(seeds, tasks, count, *shape)


def _read(url: str, shape: list[int]) -> Tensor:
    channels, height, _ = shape
    try:
        image = normalise(read_file(url)).data
        found = shape_of(image)
    except BadImage as error:
        raise UserError(f"{url} cannot be used: {error}.") from error
    if found[:2] != (height, height):
        raise UserError(
            f"{url} is {found[1]} x {found[0]} pixels, and others are {height} x {height}; all "
            f"that is compared must be of one size."
        )
    return decode([image], height, channels)


def _place(seed: int, task: int) -> str:
    return f"seed-{seed}/{task:04d}"
