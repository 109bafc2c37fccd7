"""Episodes as folders of pictures, for the systems of others: their input, and their samples.

A system is given `SEED/TASK/support/0.png ...` and writes its samples as `SEED/TASK/0.png ...`.
Tasks are numbered in the order of the list.
"""

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.data.decoding.grey_16 import Bits
from metatrain.data.decoding.levels import ALL_16_BITS
from metatrain.data.images import BadImage, normalise, shape_of
from metatrain.data.pictures import decode, lossless
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.episodes.episode_list import EpisodeList
from metatrain.storage.files import MissingError, read_file, sizes_under, write_file

LIST = "episodes.json"


def export_supports(benchmark: Benchmark, whole: EpisodeList, folder: str) -> None:
    """Write the support of every episode, and the whole list, under a path or fsspec URL.

    Raises:
        UserError: when a file cannot be written.
    """
    episodes = benchmark.episodes.episodes
    supports = tracked("writing supports", benchmark.support.flatten(0, 1), len(episodes))
    for i, support in enumerate(supports):
        seed, task = divmod(i, len(benchmark.tasks))
        for n, image in enumerate(support):
            url = f"{folder}/{_episode_folder(seed, task)}/support/{n}.png"
            write_file(url, lossless(image, benchmark.bits))
    write_file(f"{folder}/{LIST}", whole.content())


def sample_shape(folder: str) -> tuple[int, int]:
    """Return the size and the channels of the first of the samples under `folder`.

    Raises:
        UserError: when there is none, or it is not square, or no image.
    """
    url = f"{folder}/{_episode_folder(0, 0)}/0.png"
    try:
        height, width, channels = shape_of(normalise(read_file(url)).data)
    except MissingError as error:
        raise UserError(
            f"there are no samples in {folder}; export the supports, and write the first sample to "
            f"{url}."
        ) from error
    except BadImage as error:
        raise UserError(f"{url} cannot be used: {error}.") from error
    if height != width:
        raise UserError(f"{url} is {width} x {height} pixels; samples must be square.")
    return height, channels


def read_samples(folder: str, benchmark: Benchmark) -> Tensor:
    """Read another system's samples of the episodes, [S, T, N, C, H, W] in [-1, 1].

    Raises:
        UserError: when an image is missing, cannot be used, or has another size.
    """
    seeds, tasks, count, *shape = benchmark.reference.shape
    present = sizes_under(folder)
    names = [
        f"{_episode_folder(seed, task)}/{n}.png"
        for seed in range(seeds)
        for task in range(tasks)
        for n in range(count)
    ]
    missing = [name for name in names if name not in present]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of {len(names)} images, the first of them "
            f"{missing[0]}; sample {count} images of every episode."
        )
    images = [
        _read(f"{folder}/{name}", shape, benchmark.bits)
        for name in tracked("reading samples", names, len(names))
    ]
    return torch.cat(images).view(seeds, tasks, count, *shape)


def _read(url: str, shape: list[int], bits: Bits) -> Tensor:
    channels, size, _ = shape
    try:
        background = "keep" if channels == 4 else "white"
        levels = (lambda _: ALL_16_BITS) if bits == 16 else None
        image = normalise(read_file(url), background=background, levels=levels, bits=bits).data
        height, width, _ = shape_of(image)
    except BadImage as error:
        raise UserError(f"{url} cannot be used: {error}.") from error
    if (height, width) != (size, size):
        raise UserError(
            f"{url} is {width} x {height} pixels, and others are {size} x {size}; all images to "
            f"compare must have one size."
        )
    return decode([image], size, channels)


def _episode_folder(seed: int, task: int) -> str:
    return f"seed-{seed}/{task:04d}"
