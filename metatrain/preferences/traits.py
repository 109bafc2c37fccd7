"""Traits of drawings: the numbers that simulated tastes are made of."""

from functools import cache

import torch
from torch import Tensor

from metatrain.data.pictures import on_white
from metatrain.data.rated import NAMED_TRAITS
from metatrain.generators.objectives.flow import random_stream
from metatrain.metrics.hog import Hog

# Directions of the feature space. Random mixtures of so many are as good as random directions.
_DIRECTIONS = 64
_SEED = 0

TRAIT_COUNT = len(NAMED_TRAITS) + _DIRECTIONS


def traits_of(images: Tensor) -> Tensor:
    """Compute the traits [N, D] of images [N, C, H, W] in [-1, 1], on the CPU.

    Those of `NAMED_TRAITS` come first: ink, likeness to the mirror image, and how much more than
    the other two a colour there is. The others are fixed random directions of histograms of
    oriented gradients.
    """
    images = on_white(images.cpu())
    thick = -images.flatten(1).mean(dim=1)
    symmetric = -(images - images.flip(-1)).abs().flatten(1).mean(dim=1)
    means = images.expand(-1, 3, -1, -1).flatten(2).mean(dim=2)
    colours = 1.5 * (means - means.mean(dim=1, keepdim=True))
    features = Hog().features(images)
    named = torch.stack([thick, symmetric, *colours.T], dim=1)
    return torch.cat([named, features @ _directions(features.shape[1])], dim=1)


@cache
def _directions(size: int) -> Tensor:
    """Return directions of unit length on average, [size, _DIRECTIONS]."""
    directions = torch.randn(size, _DIRECTIONS, generator=random_stream(_SEED))
    return directions / size**0.5
