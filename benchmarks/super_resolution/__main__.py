"""Super-resolution on a set of images, by MZSR's measure and by torchmetrics'.

    python -m benchmarks.super_resolution TRUTH --inputs INPUTS --kernel INPUTS/kernel.mat
    python -m benchmarks.super_resolution TRUTH --kernel gaussian:1.4 --model joint=runs/joint ...

TRUTH is a folder of images, such as Set5; INPUTS holds them at low resolution. Without it, they
are degraded here by the kernel. Prints a table, and writes all numbers, a page and a picture of
crops to --out. The systems are told the kernel, or estimate it with --estimate.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from benchmarks.super_resolution.page import page, picture
from benchmarks.super_resolution.sets import Pair, read_set
from benchmarks.super_resolution.systems import System, systems
from metatrain.data.degradations.degradation import Degradation
from metatrain.data.degradations.named import named_degradation
from metatrain.data.photo import Photo
from metatrain.metrics.super_resolution import psnr_y, ssim_y
from metatrain.model.estimate import estimated


class Score(NamedTuple):
    """The scores of one enlarged image; those of torchmetrics are of RGB, rounded to 8 bits."""

    psnr: float
    ssim: float
    torchmetrics_psnr: float
    torchmetrics_ssim: float
    seconds: float


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    arguments = _parse(argv)
    told = named_degradation(arguments.kernel, arguments.scale, arguments.subsampling)

    def degradation(low: np.ndarray) -> Degradation:
        if not arguments.estimate:
            return told
        return estimated(Photo(low), arguments.scale, arguments.subsampling)

    pairs = read_set(arguments.truth, arguments.inputs, told)
    compared = systems(
        dict(model.split("=", 1) for model in arguments.model),
        degradation,
        scale=arguments.scale,
        steps=arguments.steps,
        zssr_steps=arguments.zssr,
        width=arguments.width,
    )
    scores: dict[str, list[Score]] = {}
    images: dict[str, list[np.ndarray]] = {}
    for name, system in compared.items():
        measured = [_measured(system, pair, arguments.scale) for pair in pairs]
        images[name], scores[name] = [m[0] for m in measured], [m[1] for m in measured]
    table = _table(scores)
    if arguments.estimate and told.kernel is not None:
        sigmas = [_sigma(degradation(pair.low)) for pair in pairs]
        table += f"\n\nSigma {_sigma(told):.2f}, estimated: {', '.join(f'{s:.2f}' for s in sigmas)}"
    print(table)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        values = {name: [score._asdict() for score in of] for name, of in scores.items()}
        (arguments.out / "scores.json").write_text(json.dumps(values, indent=1))
        (arguments.out / "page.html").write_text(page(pairs, images, table))
        picture(pairs, images).save(arguments.out / "picture.png", optimize=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Super-resolution on a set of images.")
    add = parser.add_argument
    add("truth", type=Path, metavar="TRUTH", help="folder of true images")
    add("--inputs", type=Path, help="folder of the same at low resolution")
    add("--kernel", default="bicubic", help="FILE, gaussian:SIGMA or bicubic (the default)")
    add("--estimate", action="store_true", help="do not tell the systems the kernel")
    add("--subsampling", choices=["direct", "bicubic"], default="direct")
    add("--scale", type=int, choices=[2, 3, 4], default=2)
    add("--model", metavar="NAME=RUN", action="append", default=[], help="repeatable")
    add("--steps", type=int, nargs="+", default=[0, 1, 5, 10], help="inner steps to measure at")
    add("--zssr", type=int, default=0, metavar="STEPS", help="steps of ZSSR (0: leave it out)")
    add("--width", type=int, default=32, help="channels of ZSSR's network (32)")
    add("--out", type=Path, help="folder of scores.json, page.html and picture.png")
    return parser.parse_args(argv)


def _measured(system: System, pair: Pair, scale: int) -> tuple[np.ndarray, Score]:
    began = time.perf_counter()
    image = system(pair.low)
    seconds = time.perf_counter() - began
    rounded, truth = (
        torch.from_numpy(np.asarray(x, np.float32)).permute(2, 0, 1)[None] / 255
        for x in (image.round(), pair.high)
    )
    similarity = structural_similarity_index_measure(rounded, truth, data_range=1.0)
    assert isinstance(similarity, torch.Tensor)
    score = Score(
        psnr_y(image, pair.high, scale),
        ssim_y(image, pair.high, scale),
        peak_signal_noise_ratio(rounded, truth, data_range=1.0).item(),
        similarity.item(),
        seconds,
    )
    return image, score


def _table(scores: dict[str, list[Score]]) -> str:
    lines = [
        "| system | PSNR of Y, dB | SSIM of Y | PSNR (torchmetrics) | SSIM (torchmetrics) | s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, of in scores.items():
        psnr, ssim, other_psnr, other_ssim, seconds = map(statistics.mean, zip(*of, strict=True))
        error = statistics.stdev(s.psnr for s in of) / math.sqrt(len(of)) if len(of) > 1 else 0.0
        lines.append(
            f"| {name} | {psnr:.2f} ± {error:.2f} | {ssim:.4f} | {other_psnr:.2f} "
            f"| {other_ssim:.4f} | {seconds:.1f} |"
        )
    return "\n".join(lines)


def _sigma(degradation: Degradation) -> float:
    """Return the standard deviation of a kernel along its rows."""
    kernel = degradation.kernel
    if kernel is None:
        return 0.0
    places = np.arange(len(kernel)) - len(kernel) // 2
    return math.sqrt(float((kernel * places**2).sum()))


if __name__ == "__main__":
    main()
