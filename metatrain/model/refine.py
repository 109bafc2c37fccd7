"""Refining simulated photographs, and the support of the domain that they are refined to."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.data.config import DataConfig
from metatrain.data.episode_config import MOST_SUPPORT
from metatrain.data.examples import Examples
from metatrain.data.photo import Photo
from metatrain.data.simulated import SIMULATED
from metatrain.data.tasks.sections import DomainsConfig
from metatrain.generators import Generator
from metatrain.generators.networks.refiner import RefiningNetwork
from metatrain.model.tiles import as_channels, colours_of, corrected, in_tiles


def refining_network(generator: Generator) -> RefiningNetwork:
    """Return the network of a generator that refines.

    Raises:
        UserError: when it does not.
    """
    if not isinstance(generator.network, RefiningNetwork):
        raise UserError(
            "this model was not trained to refine; train one with objective.name=refine."
        )
    return generator.network


def refined(network: RefiningNetwork, photo: Photo, channels: int) -> Photo:
    """Refine a photograph in tiles, whose overlap is as wide as the network sees.

    Alpha stays. Where the network is of other channels than the photograph, its correction of the
    luma goes to all channels.

    Args:
        network: refines images of `channels`.
        photo: of any size.
        channels: of the network, 1 or 3.

    Raises:
        UserError: as `in_tiles`.
    """

    def function(values: Tensor) -> Tensor:
        images = as_channels(colours_of(values, photo.has_alpha), channels)
        result = network.refine(images[None])[0]
        return corrected(values, result - images, photo.has_alpha)

    device = next(network.parameters()).device
    return in_tiles(photo, function, reach=network.reach, label="refining", device=device)


def simulated_count(real: Examples, data: DataConfig) -> int:
    """Return the number of simulated images that a support has at most.

    Raises:
        UserError: when the training had none.
    """
    return min(MOST_SUPPORT, _variants(data) * len(real))


def _variants(data: DataConfig) -> int:
    """Return the simulated images that stand beside each real one, as in the training.

    Raises:
        UserError: when there were none.
    """
    if not isinstance(data.tasks, DomainsConfig):
        raise UserError(
            f"this model was trained on data.tasks.name={data.tasks.name}, which has no simulated "
            f"images; train one on data.tasks.name=domains."
        )
    return data.tasks.variants


def chosen_order(count: int, seed: int) -> list[int]:
    """Return the numbers of `count` simulated images in the order in which a support takes them."""
    return np.random.default_rng(seed).permutation(count).tolist()


def domain_support(real: Examples, simulated: Sequence[Tensor], data: DataConfig) -> Examples:
    """Put simulated images beside real ones, as many as in the training.

    Args:
        real: images of the domain.
        simulated: images [1, C, H, W] of the training's size, which repeat where they are too few.
        data: of the training.

    Raises:
        UserError: when there are none.
    """
    if not simulated:
        raise UserError("there are no simulated images to refine; give at least one.")
    rows = np.resize(np.arange(len(simulated)), (len(real), _variants(data)))
    return Examples(real.target, {SIMULATED: torch.cat(list(simulated))[rows]})
