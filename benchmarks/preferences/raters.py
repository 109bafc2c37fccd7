"""Raters with a hidden taste, who choose with noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.generators.objectives.flow import random_stream
from metatrain.metrics.hog import Hog
from metatrain.preferences.pairs import Pairs

# The slope of Bradley and Terry's sigmoid in standard deviations of the taste: of two random
# drawings the better one is then chosen about 8 times in 10.
_SLOPE = 2.0
_LINEAR = "linear-"

Taste = Callable[[Tensor], Tensor]


def taste_of(name: str) -> Taste:
    """Return a taste: the utility [N] of images [N, C, H, W] in [-1, 1].

    Args:
        name: "thick" (much ink), "symmetric" (left and right alike), or "linear-SEED", a random
            direction of histograms of oriented gradients.

    Raises:
        UserError: when there is none of this name.
    """
    if name.startswith(_LINEAR):
        seed = name.removeprefix(_LINEAR)
        if not seed.isdecimal():
            raise UserError(f"{name} is no rater; give its seed, as in {_LINEAR}0.")
        return lambda images: _along(Hog().features(images.cpu()), int(seed))
    named = {"thick": _ink, "symmetric": _symmetry}
    if name not in named:
        raise UserError(f"{name} is no rater; give {', '.join(named)} or {_LINEAR}SEED.")
    return named[name]


def _ink(images: Tensor) -> Tensor:
    return -images.cpu().flatten(1).mean(dim=1)


def _symmetry(images: Tensor) -> Tensor:
    return -(images - images.flip(-1)).abs().cpu().flatten(1).mean(dim=1)


def _along(features: Tensor, seed: int) -> Tensor:
    return features @ torch.randn(features.shape[1], generator=random_stream(seed))


@dataclass(frozen=True)
class Rater:
    """A rater of a model's drawings.

    Attributes:
        taste: the hidden utility.
        scale: its standard deviation over the model's drawings.
    """

    taste: Taste
    scale: float

    def choose(self, left: Tensor, right: Tensor, seed: int) -> Pairs:
        """Choose between drawings [N, C, H, W], with noise."""
        lead = (self.taste(left) - self.taste(right)) / self.scale
        better = torch.rand(len(lead), generator=random_stream(seed)) < (_SLOPE * lead).sigmoid()
        at = better.to(left.device)[:, None, None, None]
        return Pairs(torch.where(at, left, right), torch.where(at, right, left))


def win_rate(taste: Taste, images: Tensor, against: Tensor) -> float:
    """Return the share of pairs of an image and one of `against` in which the former is better."""
    lead = taste(images)[:, None] - taste(against)[None, :]
    return ((lead > 0).double() + 0.5 * (lead == 0).double()).mean().item()
