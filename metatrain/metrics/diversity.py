"""Intra-task diversity: how much the images of one task differ from each other."""

import torch
from torch import Tensor


def diversity(x: Tensor) -> Tensor:
    """Mean distance between two different images of a task; read beside that of real ones.

    Ojha et al. 2021, "Few-shot Image Generation via Cross-domain Correspondence", section 4.1,
    have the idea with LPIPS about each support image; here it is the Euclidean distance in any
    feature space between all pairs of a task, so that it needs no assignment.

    Args:
        x: features [T, N, D].

    Returns:
        [T]; 0 where all images of a task are one.

    Raises:
        ValueError: with fewer than two images of a task.
    """
    images = x.shape[1]
    if images < 2:
        raise ValueError("diversity needs at least two images of each task")
    distances = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sum(dim=(1, 2)) / (images * (images - 1))
