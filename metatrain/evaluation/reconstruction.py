"""Reconstruction by a codec: the quality that nothing generated through it can exceed."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.base.progress import tracked
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import on_white
from metatrain.generators import Codec

_BATCH = 32


@dataclass(frozen=True)
class Reconstruction:
    """A task's images behind a codec.

    Attributes:
        task: its name.
        psnr: of all its images, in dB.
        image: the first of them, [C, H, W] in [-1, 1].
        decoded: what the codec makes of it.
    """

    task: str
    psnr: float
    image: Tensor
    decoded: Tensor


def reconstructions(
    codec: Codec, store: EpisodeStore, split: str, *, size: int, channels: int, tasks: int
) -> list[Reconstruction]:
    """Encode and decode the images of up to `tasks` tasks, spread evenly over a split.

    Args:
        codec: the codec.
        store: the data set.
        split: 'train', 'val' or 'test'.
        size: height and width of the images in pixels.
        channels: of the images.
        tasks: at most so many.

    Raises:
        UserError: when the images cannot be read.
    """
    every = store.tasks(split)
    count = min(tasks, len(every))
    chosen = [every[number * len(every) // count] for number in range(count)]
    images = store.images_of(tracked("reconstructing", chosen, len(chosen)), size, channels)
    return [_reconstruction(codec, t.name, i) for t, i in zip(chosen, images, strict=True)]


@torch.no_grad()
def _reconstruction(codec: Codec, task: str, images: Tensor) -> Reconstruction:
    decoded = torch.cat([codec.decode(codec.encode(i)).clamp(-1, 1) for i in images.split(_BATCH)])
    return Reconstruction(task, psnr(decoded, images), images[0], decoded[0])


def psnr(images: Tensor, truth: Tensor) -> float:
    """Compute the peak signal-to-noise ratio of images [N, C, H, W], in dB; RGBA lies on white."""
    # The peak is 2, from -1 to 1.
    error = (on_white(images) - on_white(truth)).double().square().mean().item() / 4
    return -10 * math.log10(error) if error else math.inf


def mean_psnr(results: list[Reconstruction]) -> float:
    """Average over tasks, in dB."""
    return sum(result.psnr for result in results) / len(results)
