"""Networks of super-resolution that compute at the low resolution, for one scale."""

from abc import abstractmethod

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.generators.networks.residual import EnlargingNetwork, enlarged_bicubic
from metatrain.generators.networks.sections import ShuffledConfig


class ShuffledNetwork(EnlargingNetwork):
    """Features at the low resolution that correct a bicubic enlargement.

    Their last channels are shuffled into pixels (Shi et al. 2016, "Real-Time Single Image and Video
    Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", section 3.2).
    A convolution costs scale^2 times less here than after the enlargement, so that the network is
    deeper and wider than `Residual` for the same operations. The last convolution starts at 0, so
    that the network starts as the bicubic enlargement.

    Args:
        config: its size and its scale.
        shape: of an example, of which only the channels count.
    """

    head = ("last",)

    def __init__(self, config: ShuffledConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        channels = shape[0]
        self.scale = config.scale
        self.first = nn.Conv2d(channels, config.width, 3, padding=1)
        self.last = nn.Conv2d(config.width, channels * config.scale**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    @abstractmethod
    def features(self, first: Tensor) -> Tensor:
        """Compute the last features of the first ones, both [B, width, h, w]."""

    @override
    def enlarge(self, low: Tensor, scale: int) -> Tensor:
        if scale != self.scale:
            raise UserError(
                f"generator.scale={self.scale} cannot enlarge by {scale}; give generator.scale and "
                f"data.tasks.scale the same value."
            )
        correction = pixel_shuffle(self.last(self.features(self.first(low))), scale)
        return enlarged_bicubic(low, scale) + correction
