"""Intervals of time, over which a network predicts the mean velocity."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

# Sines and cosines of the length, from a half turn over [0, 1] on. Few, since the derivative in
# time grows with the frequency.
_OCTAVES = 4


class Interval(nn.Module):
    """An embedding of the lengths of intervals.

    An interval of no length adds nothing, so that the network still predicts velocities without
    one, and any interval adds nothing at first.

    Args:
        embedding: channels of the embedding that conditions the network (E).
    """

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * _OCTAVES, embedding, bias=False)
        self.out = nn.Linear(embedding, embedding, bias=False)
        nn.init.zeros_(self.out.weight)

    @override
    def forward(self, span: Tensor) -> Tensor:
        """Embed lengths [B] in [0, 1] as [B, E]."""
        octaves = torch.arange(_OCTAVES, device=span.device, dtype=span.dtype)
        angles = math.pi * span[:, None] * 2**octaves
        features = torch.cat([angles.sin(), angles.cos() - 1], dim=1)
        return self.out(F.silu(self.hidden(features)))
