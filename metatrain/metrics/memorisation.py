"""Memorisation: are images nearer to the support than unseen real ones of the task are?"""

import torch
from torch import Tensor

# The share of held-out real images that the threshold calls memorised.
LEVEL = 0.05


class Memorisation:
    """The share of images that are as near to their support as the nearest of the real ones.

    The distance of an image to the nearest support image of its task, divided by the mean such
    distance of the task's reference images, is comparable between tasks: r. An image counts as
    memorised where r is at most the 5% quantile of the r of held-out real images, which nobody
    can have memorised. So the rate is 5% for real images and for whoever draws like them, and 1
    for copies. Reference and held-out images are exchangeable, so the calibration is fair however
    few of either there are. After the nearest-neighbour test of Meehan et al. 2020, "A
    Non-Parametric Test to Detect Data-Copying in Generative Models", with a rate for its z-score.

    Args:
        images: features [T, N, D] of the images to judge.
        held_out: features [T, M, D] of real images that the system never saw.
        reference: features [T, R, D] of further ones.
        support: features [T, K, D] of the images that it saw.

    Attributes:
        ratios: r of each image, [T, N].
        threshold: the r at or below which an image counts as memorised.
    """

    def __init__(
        self, images: Tensor, held_out: Tensor, reference: Tensor, support: Tensor
    ) -> None:
        scale = nearest(reference, support).mean(dim=1, keepdim=True)
        # Equal images alone make a scale of 0; any distance above none is then infinitely far.
        self.ratios = _ratio(nearest(images, support), scale)
        self._calibration, order = _ratio(nearest(held_out, support), scale).flatten().sort()
        self._owners = torch.div(order, held_out.shape[1], rounding_mode="floor")
        self.threshold = self._thresholds(torch.ones(1, len(images)).double()).item()

    def __call__(self, weights: Tensor) -> Tensor:
        """The rates [B] where task t counts `weights[b, t]` times, threshold and all."""
        weights = weights.double()
        memorised = (self.ratios <= self._thresholds(weights)[:, None, None]).double()
        rates = torch.einsum("bt,btn->b", weights, memorised)
        return rates / (weights.sum(dim=1) * self.ratios.shape[1])

    def _thresholds(self, weights: Tensor) -> Tensor:
        """The 5% quantiles [B] of the held-out ratios, each counting as often as its task."""
        mass = weights[:, self._owners].cumsum(dim=1)
        wanted = LEVEL * mass[:, -1:]
        at = torch.searchsorted(mass, wanted).clamp_max(mass.shape[1] - 1)
        return self._calibration[at[:, 0]]


def nearest(images: Tensor, support: Tensor) -> Tensor:
    """Distance of each image [T, N, D] to the nearest of its task's support [T, K, D]: [T, N]."""
    return _distances(images, support).min(dim=2).values


def nearest_index(images: Tensor, support: Tensor) -> Tensor:
    """Which image of its task's support is nearest to each image: [T, N]."""
    return _distances(images, support).argmin(dim=2)


def _distances(images: Tensor, support: Tensor) -> Tensor:
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(images.double(), support.double(), compute_mode=exact)


def _ratio(distance: Tensor, scale: Tensor) -> Tensor:
    return torch.where(distance == 0, 0.0, distance / scale)
