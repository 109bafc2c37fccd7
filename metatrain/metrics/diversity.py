"""Intra-task diversity: the mean distance between images of one task, and its collapse."""

import torch
from torch import Tensor

# Samples with less than this share of the diversity of real images have collapsed. Copies of five
# images have 0.8 of it.
COLLAPSED = 0.5


def diversity(x: Tensor) -> Tensor:
    """Return the mean distance between two different images of each task.

    Compare it with the diversity of real images. The idea is from Ojha et al. 2021, "Few-shot
    Image Generation via Cross-domain Correspondence", section 4.1, who take LPIPS within the
    cluster of each support image. Here it is the Euclidean distance in any feature space between
    all pairs of a task, which needs no assignment to clusters.

    Args:
        x: features [T, N, D].

    Returns:
        [T]; 0 where all images of a task are equal.

    Raises:
        ValueError: with fewer than two images of a task.
    """
    images = x.shape[1]
    if images < 2:
        raise ValueError("diversity needs at least two images of each task")
    distances = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sum(dim=(1, 2)) / (images * (images - 1))


def collapse(samples: float, real: float) -> str | None:
    """Return a sentence if samples of this diversity have collapsed, beside `real`; else None."""
    # Written so that real images without diversity are no yardstick.
    if not samples < COLLAPSED * real:
        return None
    return (
        f"the samples of a task have collapsed: their diversity is {samples / real:.0%} of real "
        f"images', and under {COLLAPSED:.0%} they are much alike"
    )
