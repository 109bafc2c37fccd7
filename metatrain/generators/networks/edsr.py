"""Residual blocks at the low resolution, for super-resolution by one scale."""

from torch import Tensor, nn
from typing_extensions import override

from metatrain.generators.networks.sections import EDSRConfig
from metatrain.generators.networks.shuffled import ShuffledNetwork

# Of what a block adds when it is new, the standard deviation: so many blocks still add little.
_START = 0.3


class EDSRBlock(nn.Module):
    """Two convolutions that add to what they are given (Lim et al. 2017, figure 2c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.normal_(self.second.weight, std=_START / (9 * width) ** 0.5)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, width, h, w] to features of the same shape."""
        return x + self.second(self.first(x).relu())


class EDSR(ShuffledNetwork):
    """Residual blocks without normalisation, at the low resolution.

    Lim et al. 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution", section 3.

    Args:
        config: its size and its scale.
        shape: of an example, of which only the channels count.
    """

    Config = EDSRConfig

    def __init__(self, config: EDSRConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.blocks = nn.Sequential(*(EDSRBlock(config.width) for _ in range(config.blocks)))
        self.deepest = nn.Conv2d(config.width, config.width, 3, padding=1)

    @override
    def features(self, first: Tensor) -> Tensor:
        return first + self.deepest(self.blocks(first))

    @property
    @override
    def reach(self) -> int:
        return 2 * len(self.blocks) + 3
