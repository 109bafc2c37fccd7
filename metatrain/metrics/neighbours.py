"""The manifold of a set of images: balls that reach to each one's k-th nearest neighbour."""

import torch
from torch import Tensor


def within_balls(points: Tensor, centres: Tensor, k: int) -> Tensor:
    """Test whether each point lies in the ball of each centre, [P, C].

    Args:
        points: [P, D].
        centres: [C, D].
        k: a ball reaches to the k-th nearest of the other centres.

    Raises:
        ValueError: with k centres or fewer.
    """
    if len(centres) <= k:
        raise ValueError(f"the {k}-th nearest neighbour needs more than {k} images")
    points, centres = points.double(), centres.double()
    among = _distances(centres, centres).fill_diagonal_(torch.inf)
    radii = among.kthvalue(k, dim=1).values
    return _distances(points, centres) <= radii


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # |a|^2 + |b|^2 - 2ab would give equal images a distance above 0.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
