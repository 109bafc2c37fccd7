"""SPAN, a network of super-resolution that computes at the low resolution, for one scale."""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from typing_extensions import override

from metatrain.generators.networks.sections import SpanConfig
from metatrain.generators.networks.shuffled import ShuffledNetwork


class Block(nn.Module):
    """Three convolutions whose result is weighted by a function of itself.

    Wan et al. 2024, "Swift Parameter-free Attention Network for Efficient Super-Resolution", eq. 3
    to 5: (h + x) (sigmoid(h) - 1/2), where h is what the convolutions make of x.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.third = nn.Conv2d(width, width, 3, padding=1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, width, h, w] to features of the same shape."""
        h = self.third(silu(self.second(silu(self.first(x)))))
        return (h + x) * (h.sigmoid() - 0.5)


class Span(ShuffledNetwork):
    """Blocks at the low resolution, of which some are joined.

    The published network gives its convolutions branches that are merged after training; this one
    has none, because a task's inner steps would move other weights than those that were trained.

    Args:
        config: its size and its scale.
        shape: of an example, of which only the channels count.
    """

    Config = SpanConfig

    def __init__(self, config: SpanConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        width = config.width
        self.blocks = nn.ModuleList(Block(width) for _ in range(config.blocks))
        self.deepest = nn.Conv2d(width, width, 3, padding=1)
        self.joined = nn.Conv2d(4 * width, width, 1)

    @override
    def features(self, first: Tensor) -> Tensor:
        features = [first]
        for block in self.blocks:
            features.append(block(features[-1]))
        outer, inner, beforelast, last = (features[i] for i in (0, 1, -2, -1))
        return self.joined(torch.cat([outer, self.deepest(last), inner, beforelast], 1))

    @property
    @override
    def reach(self) -> int:
        return 3 * len(self.blocks) + 3
