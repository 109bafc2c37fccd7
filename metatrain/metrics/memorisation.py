"""Memorisation: the share of images that are nearer to the support than unseen real images are."""

import torch
from torch import Tensor

# The share of held-out real images below the threshold.
LEVEL = 0.05


class Memorisation:
    """The rate of memorised images among all images of some tasks.

    r is the distance of an image to the nearest support image of its task, divided by the mean
    such distance of the task's reference images, and so comparable between tasks. An image counts
    as memorised if its r is at most the 5% quantile of the r of held-out real images, which no
    system has seen. So the rate is 5% for real images and for a system with their distribution,
    and 1 for copies. Reference and held-out images are exchangeable, so this calibration holds
    for any number of them. After the nearest-neighbour test of Meehan et al. 2020, "A
    Non-Parametric Test to Detect Data-Copying in Generative Models", with a rate in place of its
    z-score.

    Args:
        images: features [T, N, D] of the images to test.
        held_out: features [T, M, D] of real images that the system has not seen.
        reference: features [T, R, D] of further such images.
        support: features [T, K, D] of the images that the system has seen.

    Attributes:
        ratios: r of each image, [T, N].
        threshold: the r at or below which an image counts as memorised.
    """

    def __init__(
        self, images: Tensor, *, held_out: Tensor, reference: Tensor, support: Tensor
    ) -> None:
        scale = nearest(reference, support).mean(dim=1, keepdim=True)
        # A scale of 0 comes only from equal images; any positive distance is then infinite.
        self.ratios = _ratio(nearest(images, support), scale)
        self._calibration, order = _ratio(nearest(held_out, support), scale).flatten().sort()
        self._owners = torch.div(order, held_out.shape[1], rounding_mode="floor")
        self.threshold = self._thresholds(torch.ones(1, len(images)).double()).item()

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the rates [B] in which task t counts `weights[b, t]` times, for each row b.

        The threshold is that of the same weights.
        """
        weights = weights.double()
        memorised = (self.ratios <= self._thresholds(weights)[:, None, None]).double()
        rates = torch.einsum("bt,btn->b", weights, memorised)
        return rates / (weights.sum(dim=1) * self.ratios.shape[1])

    def _thresholds(self, weights: Tensor) -> Tensor:
        """Return the 5% quantiles [B] of the held-out ratios, weighted by their tasks."""
        mass = weights[:, self._owners].cumsum(dim=1)
        wanted = LEVEL * mass[:, -1:]
        at = torch.searchsorted(mass, wanted).clamp_max(mass.shape[1] - 1)
        return self._calibration[at[:, 0]]


def nearest(images: Tensor, support: Tensor) -> Tensor:
    """Return the distance [T, N] of each image to the nearest support image of its task.

    Args:
        images: features [T, N, D].
        support: features [T, K, D].
    """
    return _distances(images, support).min(dim=2).values


def nearest_index(images: Tensor, support: Tensor) -> Tensor:
    """Return the index [T, N] of the support image nearest to each image; see `nearest`."""
    return _distances(images, support).argmin(dim=2)


def _distances(images: Tensor, support: Tensor) -> Tensor:
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(images.double(), support.double(), compute_mode=exact)


def _ratio(distance: Tensor, scale: Tensor) -> Tensor:
    return torch.where(distance == 0, 0.0, distance / scale)
