"""What stands beside every system: systems that draw nothing, and what bounds them all."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.evaluation.episodes.benchmark import Benchmark

COPY, JITTERED, REAL = "copy-support", "copy-support, jittered", "held-out real"

# How far a jittered copy is turned (radians), scaled, and moved (of half the image), at most.
_TURN, _SCALE, _SHIFT = 0.15, 0.1, 0.1


def baselines(benchmark: Benchmark) -> dict[str, Tensor]:
    """The images [S, T, N, C, H, W] of each baseline, the ceiling last.

    Copies show how far a score goes without generating anything; jittered ones, whether it tells
    copies from new images; held-out real images, what the perfect generator gets.
    """
    copies = _copies(benchmark)
    return {COPY: copies, JITTERED: _jittered(copies, benchmark), REAL: benchmark.held_out}


def _copies(benchmark: Benchmark) -> Tensor:
    """The support in its order, from the beginning again where there is too little."""
    index = torch.arange(benchmark.images) % benchmark.shots
    return benchmark.support[:, :, index]


def _jittered(copies: Tensor, benchmark: Benchmark) -> Tensor:
    """Every copy turned, scaled and moved a little, as the episode's noise has it."""
    draws = [
        np.random.Generator(np.random.Philox(key=e.noise)).uniform(-1, 1, (copies.shape[2], 4))
        for e in benchmark.episodes.episodes
    ]
    turn, scale, *shift = torch.from_numpy(np.concatenate(draws)).float().unbind(1)
    turn, scale = turn * _TURN, 1 + scale * _SCALE
    rows = [
        torch.stack([scale * turn.cos(), -scale * turn.sin(), shift[0] * _SHIFT], dim=1),
        torch.stack([scale * turn.sin(), scale * turn.cos(), shift[1] * _SHIFT], dim=1),
    ]
    flat = copies.flatten(0, 2)
    places = F.affine_grid(torch.stack(rows, dim=1), list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, places, padding_mode="border", align_corners=False)
    return moved.view_as(copies)
