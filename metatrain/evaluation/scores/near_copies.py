"""Pictures of the samples that are nearest to their support, to see copies and not only count."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.data.pictures import png
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.scores.measure import NearCopy
from metatrain.metrics.fidelity import psnr, ssim
from metatrain.storage.files import write_file


@dataclass(frozen=True)
class NearCopyPicture:
    """One of the samples nearest to their support, kept as a picture beside its support image.

    Attributes:
        task: the name of its task.
        ratio: its distance to the support image, relative to the mean one of reference images.
        memorised: whether the ratio is as small as only 5% of those of held-out images.
        psnr: peak signal-to-noise ratio to the support image in dB; None if the two are equal.
        ssim: structural similarity to the support image.
    """

    task: str
    ratio: float
    memorised: bool
    psnr: float | None
    ssim: float


# The number of pictures that an evaluation keeps.
NEAR_COPIES = 12


def keep_near_copies(
    benchmark: Benchmark, images: Tensor, copies: list[NearCopy], folder: str
) -> list[NearCopyPicture]:
    """Write the nearest of `copies`, each with its support image, under `folder`.

    Args:
        benchmark: the episodes.
        images: the samples, [S, T, N, C, H, W] in [-1, 1].
        copies: every sample with its nearest support image, nearest first.
        folder: a path or any fsspec URL.
    """
    nearest = copies[:NEAR_COPIES]
    samples = torch.stack([images[c.seed, c.task, c.image] for c in nearest])
    supports = torch.stack([benchmark.support[c.seed, c.task, c.support] for c in nearest])
    for i, pair in enumerate(zip(samples, supports, strict=True)):
        for part, image in zip(("drawn", "given"), pair, strict=True):
            write_file(f"{folder}/{near_copy_file(i, part)}", png(image))
    fidelity = zip(psnr(samples, supports).tolist(), ssim(samples, supports).tolist(), strict=True)
    return [
        NearCopyPicture(
            task=benchmark.tasks[copy.task],
            ratio=copy.ratio,
            memorised=copy.memorised,
            psnr=decibel if math.isfinite(decibel) else None,
            ssim=similarity,
        )
        for copy, (decibel, similarity) in zip(nearest, fidelity, strict=True)
    ]


def near_copy_file(index: int, part: str) -> str:
    """Return the file of a sample (`part` is "drawn") or of its support image ("given")."""
    return f"near-copies/{index:02d}/{part}.png"
