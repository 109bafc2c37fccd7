"""The baselines beside every system: copies of the support, and held-out real images."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.evaluation.episodes.benchmark import Benchmark

COPY, JITTERED, REAL = "copy-support", "copy-support, jittered", "held-out real"

# The largest rotation (radians), change of scale and shift (of half the image) of a jittered copy.
_ROTATION, _SCALE, _SHIFT = 0.15, 0.1, 0.1


def baselines(benchmark: Benchmark) -> dict[str, Tensor]:
    """Return the images [S, T, N, C, H, W] of each baseline, the ceiling last.

    Copies show how good a score can be without generating anything; jittered copies, whether the
    score separates copies from new images; held-out real images, the score of a perfect generator.
    """
    copies = _copies(benchmark)
    return {COPY: copies, JITTERED: _jittered(copies, benchmark), REAL: benchmark.held_out}


def _copies(benchmark: Benchmark) -> Tensor:
    """Return the support images in order, repeated from the first where they are too few."""
    index = torch.arange(benchmark.images) % benchmark.shots
    return benchmark.support[:, :, index]


def _jittered(copies: Tensor, benchmark: Benchmark) -> Tensor:
    """Rotate, scale and shift every copy a little, at random by its episode's noise seed."""
    jitter = [
        np.random.Generator(np.random.Philox(key=e.noise)).uniform(-1, 1, (copies.shape[2], 4))
        for e in benchmark.episodes.episodes
    ]
    angle, scale, *shift = torch.from_numpy(np.concatenate(jitter)).float().unbind(1)
    angle, scale = angle * _ROTATION, 1 + scale * _SCALE
    rows = [
        torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[0] * _SHIFT], dim=1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), shift[1] * _SHIFT], dim=1),
    ]
    flat = copies.flatten(0, 2)
    places = F.affine_grid(torch.stack(rows, dim=1), list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, places, padding_mode="border", align_corners=False)
    return moved.view_as(copies)
