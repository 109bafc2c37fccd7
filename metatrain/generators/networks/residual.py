"""Super-resolution networks: the residual of a bicubic enlargement."""

from abc import abstractmethod
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from metatrain.data.degradations.bicubic import bicubic_weights
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.sections import ResidualConfig


class EnlargingNetwork(Network):
    """A network that enlarges images of any size, by any scale."""

    @abstractmethod
    def enlarge(self, low: Tensor, scale: int) -> Tensor:
        """Enlarge images [B, C, h, w] in [-1, 1] to [B, C, scale * h, scale * w]."""

    @property
    @abstractmethod
    def reach(self) -> int:
        """The pixels of a low image around a place that decide about its enlargement."""


class Residual(EnlargingNetwork):
    """Eight 3x3 convolutions that correct a bicubic enlargement.

    Soh et al. 2020, "Meta-Transfer Learning for Zero-Shot Super-Resolution" (MZSR), section 4.1,
    after Shocher et al. 2018, "Zero-Shot Super-Resolution using Deep Internal Learning" (ZSSR). The
    last convolution starts at 0, so that the network starts as the bicubic enlargement.

    Args:
        config: its size.
        shape: of an example, of which only the channels count.
    """

    Config = ResidualConfig
    head = ("last",)
    layers = 8

    def __init__(self, config: ResidualConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        widths = [shape[0], *[config.width] * (self.layers - 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)
        )
        self.last = nn.Conv2d(config.width, shape[0], 3, padding=1)
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    @override
    def enlarge(self, low: Tensor, scale: int) -> Tensor:
        coarse = x = enlarged_bicubic(low, scale)
        for convolution in self.convolutions:
            x = convolution(x).relu()
        return coarse + self.last(x)

    @property
    @override
    def reach(self) -> int:
        return self.layers


def enlarged_bicubic(low: Tensor, scale: int) -> Tensor:
    """Enlarge images [..., h, w] to [..., scale * h, scale * w]."""
    height, width = low.shape[-2:]
    rows, columns = (_weights(side, scale, low.dtype, low.device) for side in (height, width))
    return rows @ low @ columns.T


@lru_cache(maxsize=64)
def _weights(size: int, scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(bicubic_weights(size, scale).copy()).to(device, dtype)
