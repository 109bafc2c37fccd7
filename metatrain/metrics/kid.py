"""Kernel Inception Distance, in the space of any metric network."""

import torch
from torch import Tensor


def kid(x: Tensor, y: Tensor) -> float:
    """Estimate the squared maximum mean discrepancy between the distributions of x and y.

    Binkowski et al. 2018, "Demystifying MMD GANs", eq. 4, with their kernel
    k(a, b) = (a . b / D + 1)^3. The estimate is unbiased, so it may be negative where the
    distributions agree.

    Both sides have the same number of images of each of the same tasks, so the images are not
    independent: pairs within one task would be more frequent between x and y than within either,
    and the score of real images would be negative. Therefore the estimator takes a mean for each
    pair of tasks and averages these means; without the pairs of an image with itself, each is
    unbiased. Torchmetrics has only the estimator for independent images, on random subsets.

    Args:
        x: features [T, N, D], N images of each of T tasks.
        y: features [T, M, D] of the same tasks.

    Raises:
        ValueError: with fewer than two images of a task on either side.
    """
    return kid_of_pairs(x, y).mean().item()


def kid_of_pairs(x: Tensor, y: Tensor) -> Tensor:
    """Return the term of every pair of tasks, [T, T] in float64, whose mean is `kid`.

    The score of a resample of tasks with weights w that sum to 1 is w . (terms) . w; no image is
    compared with itself, even if its task occurs twice.

    Args:
        x: features [T, N, D], N images of each of T tasks.
        y: features [T, M, D] of the same tasks.

    Raises:
        ValueError: with fewer than two images of a task on either side.
    """
    if min(x.shape[1], y.shape[1]) < 2:
        raise ValueError("KID needs at least two images of each task on either side")
    between = _kernel(x, y).mean(dim=(1, 3))
    return _within(x) + _within(y) - between - between.T


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return k(a, b) of every pair of images, [T, N, T, M]."""
    a, b = a.double(), b.double()
    return (torch.einsum("tnd,smd->tnsm", a, b) / a.shape[-1] + 1) ** 3


def _within(x: Tensor) -> Tensor:
    """Return for every pair of tasks the mean of k over pairs of different images, [T, T]."""
    images = x.shape[1]
    k = _kernel(x, x)
    sums = k.sum(dim=(1, 3))
    same = (sums.diagonal() - torch.einsum("tntn->t", k)) / (images * (images - 1))
    return (sums / images**2).diagonal_scatter(same)
