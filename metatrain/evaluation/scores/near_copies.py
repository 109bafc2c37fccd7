"""The images that are nearest to what was given, beside it: copies are seen, not only counted."""

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
class Offender:
    """One of the images that are nearest to their support.

    Attributes:
        task: its task's name.
        ratio: its distance, by the mean one of the task's reference images.
        memorised: whether that is as small as only 5% of those of held-out images.
        psnr: peak signal to noise ratio to the nearest support image in dB; None where equal.
        ssim: structural similarity to it.
    """

    task: str
    ratio: float
    memorised: bool
    psnr: float | None
    ssim: float


# How many are kept.
OFFENDERS = 12


def keep_offenders(
    benchmark: Benchmark, images: Tensor, copies: list[NearCopy], folder: str
) -> list[Offender]:
    """Write the worst of `copies` and their nearest support images under `folder`.

    Args:
        benchmark: whose support was given.
        images: what was drawn, [S, T, N, C, H, W] in [-1, 1].
        copies: all of it, nearest first.
        folder: a path or any fsspec URL.
    """
    worst = copies[:OFFENDERS]
    drawn = torch.stack([images[c.seed, c.task, c.image] for c in worst])
    given = torch.stack([benchmark.support[c.seed, c.task, c.support] for c in worst])
    for i, pair in enumerate(zip(drawn, given, strict=True)):
        for part, image in zip(("drawn", "given"), pair, strict=True):
            write_file(f"{folder}/{offender_file(i, part)}", png(image))
    alike = zip(worst, psnr(drawn, given).tolist(), ssim(drawn, given).tolist(), strict=True)
    return [
        Offender(
            benchmark.tasks[copy.task],
            copy.ratio,
            copy.memorised,
            decibel if math.isfinite(decibel) else None,
            similarity,
        )
        for copy, decibel, similarity in alike
    ]


def offender_file(index: int, part: str) -> str:
    """The file of what was drawn, or of what was given."""
    return f"offenders/{index:02d}/{part}.png"
