"""A network of super-resolution that computes at the low resolution, for one scale."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, silu
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.generators.networks.residual import EnlargingNetwork, enlarged_bicubic


class SpanConfig(Section):
    """Blocks of three convolutions; `width` and `blocks` set the size."""

    name: Literal["span"] = "span"
    width: int = Field(default=48, ge=1, le=4096, description="Channels between convolutions.")
    blocks: int = Field(default=6, ge=2, le=64, description="Blocks of three convolutions.")
    scale: int = Field(default=2, ge=2, le=4, description="That of data.tasks.scale.")


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


class Span(EnlargingNetwork):
    """Blocks at the low resolution that correct a bicubic enlargement.

    Their last channels are shuffled into pixels (Shi et al. 2016, "Real-Time Single Image and Video
    Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", section 3.2).
    A convolution costs scale^2 times less here than after the enlargement, so that the network is
    deeper and wider than `Residual` for the same operations. The published network gives its
    convolutions branches that are merged after training; this one has none, because a task's inner
    steps would move other weights than those that were trained. The last convolution starts at 0,
    so that the network starts as the bicubic enlargement.

    Args:
        config: its size and its scale.
        shape: of an example, of which only the channels count.
    """

    Config = SpanConfig
    head = ("last",)

    def __init__(self, config: SpanConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        channels, width = shape[0], config.width
        self.scale = config.scale
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(config.blocks))
        self.deepest = nn.Conv2d(width, width, 3, padding=1)
        self.joined = nn.Conv2d(4 * width, width, 1)
        self.last = nn.Conv2d(width, channels * config.scale**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    @override
    def enlarge(self, low: Tensor, scale: int) -> Tensor:
        if scale != self.scale:
            raise UserError(
                f"generator.scale={self.scale} cannot enlarge by {scale}; give generator.scale and "
                f"data.tasks.scale the same value."
            )
        features = [self.first(low)]
        for block in self.blocks:
            features.append(block(features[-1]))
        outer, inner, beforelast, last = (features[i] for i in (0, 1, -2, -1))
        joined = self.joined(torch.cat([outer, self.deepest(last), inner, beforelast], 1))
        return enlarged_bicubic(low, scale) + pixel_shuffle(self.last(joined), scale)

    @property
    @override
    def reach(self) -> int:
        return 3 * len(self.blocks) + 3
