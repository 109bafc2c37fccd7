"""The manifold of a set of images: balls about each that reach to its k-th nearest neighbour."""

import torch
from torch import Tensor


def within_balls(points: Tensor, centres: Tensor, k: int) -> Tensor:
    """Whether each point lies in the ball of each centre, [P, C].

    A ball reaches as far as the k-th nearest of the other centres.

    Args:
        points: [P, D].
        centres: [C, D].
        k: which neighbour.

    Raises:
        ValueError: with no more than k centres.
    """
    if len(centres) <= k:
        raise ValueError(f"the {k}-th nearest neighbour needs more than {k} images")
    points, centres = points.double(), centres.double()
    among = _distances(centres, centres).fill_diagonal_(torch.inf)
    radii = among.kthvalue(k, dim=1).values
    return _distances(points, centres) <= radii


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # Exactly, since by |a|^2 + |b|^2 - 2ab equal images would have a distance.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
