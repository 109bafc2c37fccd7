"""Batches: examples with the support that they are conditioned on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.data.examples import Examples


@dataclass(frozen=True)
class Batch:
    """Examples to learn from, the support they are conditioned on, and the key of their noise.

    Attributes:
        examples: B targets with their conditions.
        support: K examples that a generator is conditioned on.
        support_index: [B], the index of each example in the support, -1 where it is not part of
            it. A target must not be conditioned on itself, or the generator learns to copy.
        seed: with `noise_index`, determines all noise: the loss is a function of weights alone.
        noise_index: the number of the noise for these examples (the inner step).
    """

    examples: Examples
    support: Examples
    support_index: Tensor
    seed: int
    noise_index: int


def support_batch(support: Examples, seed: int, noise_index: int) -> Batch:
    """Take the support as targets, each conditioned on the others."""
    index = torch.arange(len(support), device=support.target.device)
    return Batch(support, support, index, seed, noise_index)
