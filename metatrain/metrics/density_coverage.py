"""Density and coverage, which are robust to outliers among the real images."""

from torch import Tensor

from metatrain.metrics.neighbours import within_balls

NEIGHBOURS = 5


def density(x: Tensor, y: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Count the balls of real images that hold each generated image, divided by k.

    Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models", eq. 4,
    with their k = 5. About 1 where x and y have the same distribution; it may exceed 1.

    Args:
        x: features [T, N, D] of generated images.
        y: features [T, M, D] of real images.
        k: a ball reaches to the k-th nearest neighbour of its centre.

    Returns:
        [T], whose mean is the density.
    """
    balls = within_balls(x.flatten(0, 1), y.flatten(0, 1), k).double().sum(dim=1) / k
    return balls.unflatten(0, x.shape[:2]).mean(dim=1)


def coverage(x: Tensor, y: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the share of each task's real images whose ball holds a generated image.

    Eq. 5 of the same paper; arguments and result as in `density`. Where x and y have the same
    distribution, and m and n images, its mean is 1 - C(n - 1, k) / C(n + m - 1, k): the k nearest
    neighbours of an image are then all real by chance alone.
    """
    held = within_balls(x.flatten(0, 1), y.flatten(0, 1), k).any(dim=0)
    return held.unflatten(0, y.shape[:2]).double().mean(dim=1)
