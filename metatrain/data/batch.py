"""What a generator is trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images to learn from, the support they are conditioned on, and the draw's key.

    Attributes:
        images: targets, [B, C, H, W] in [-1, 1].
        support: the condition, [K, C, H, W] in [-1, 1].
        support_index: [B], the index of each target in the support, -1 where it is not part of
            it. A generator must not show a target to itself, or it learns to copy.
        seed: with `draw`, determines all noise: the loss is a function of the weights alone.
        draw: which draw for the same images this is (the inner step).
    """

    images: Tensor
    support: Tensor
    support_index: Tensor
    seed: int
    draw: int


def support_batch(support: Tensor, seed: int, draw: int) -> Batch:
    """The support [K, C, H, W] as targets, each conditioned on the others."""
    index = torch.arange(len(support), device=support.device)
    return Batch(support, support, index, seed, draw)
