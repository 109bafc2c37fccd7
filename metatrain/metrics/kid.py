"""Kernel Inception Distance, in the space of any metric network."""

import torch
from torch import Tensor


def kid(x: Tensor, y: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy between the mixtures that x and y were drawn from.

    Binkowski et al. 2018, "Demystifying MMD GANs", eq. 4, with their kernel
    k(a, b) = (a . b / D + 1)^3. Unbiased, so it may be negative where x and y agree.

    Both sides have the same number of images of each of the same tasks, which is not a sample of
    independent images: pairs of one task would be more frequent between x and y than within
    either, and the score of real images negative. So a mean is taken for each pair of tasks, and
    the mean of those; with one image left out against itself, each is unbiased. Torchmetrics has
    the estimator for independent images only, on random subsets of them.

    Args:
        x: features [T, N, D], N images of each of T tasks.
        y: features [T, M, D] of the same tasks.

    Raises:
        ValueError: with fewer than two images of a task on either side.
    """
    return kid_of_pairs(x, y).mean().item()


def kid_of_pairs(x: Tensor, y: Tensor) -> Tensor:
    """The part of every pair of tasks in the score, [T, T] in float64: `kid` is their mean.

    The score of tasks that were drawn again, of weights w that sum to 1, is w . (pairs) . w: also
    where a task was drawn twice, no image is compared with itself.

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
    """K of every pair, [T, N, T, M]."""
    a, b = a.double(), b.double()
    return (torch.einsum("tnd,smd->tnsm", a, b) / a.shape[-1] + 1) ** 3


def _within(x: Tensor) -> Tensor:
    """For every pair of tasks, the mean of k over pairs of different images, [T, T]."""
    images = x.shape[1]
    k = _kernel(x, x)
    sums = k.sum(dim=(1, 3))
    same = (sums.diagonal() - torch.einsum("tntn->t", k)) / (images * (images - 1))
    return (sums / images**2).diagonal_scatter(same)
