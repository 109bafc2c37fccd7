"""Enlarging a photograph of any size."""

from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.data.photo import Photo
from metatrain.generators import Generator
from metatrain.generators.networks.residual import EnlargingNetwork, enlarged_bicubic
from metatrain.model.tiles import as_channels, colours_of, corrected, in_tiles


def enlarging_network(generator: Generator) -> EnlargingNetwork:
    """Return the network of a generator that enlarges.

    Raises:
        UserError: when it does not.
    """
    if not isinstance(generator.network, EnlargingNetwork):
        raise UserError(
            "this model was not trained to enlarge; train one with objective.name=super_resolution."
        )
    return generator.network


def enlarged(network: EnlargingNetwork, photo: Photo, scale: int, channels: int) -> Photo:
    """Enlarge a photograph in tiles, whose overlap is as wide as the network sees.

    Alpha is enlarged bicubically. Where the network is of other channels than the photograph, its
    correction of the luma goes to all channels.

    Args:
        network: enlarges images of `channels`.
        photo: of any size.
        scale: the side of the result divided by that of the photograph.
        channels: of the network, 1 or 3.

    Raises:
        UserError: as `in_tiles`.
    """

    def function(values: Tensor) -> Tensor:
        low = as_channels(colours_of(values, photo.has_alpha), channels)
        correction = network.enlarge(low[None], scale)[0] - enlarged_bicubic(low, scale)
        return corrected(enlarged_bicubic(values, scale), correction, photo.has_alpha)

    device = next(network.parameters()).device
    return in_tiles(
        photo, function, reach=network.reach, label="enlarging", scale=scale, device=device
    )
