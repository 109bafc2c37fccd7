"""Kernel Inception Distance, in the space of any metric network."""

from torch import Tensor


def kid(x: Tensor, y: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy between features x [N, D] and y [M, D].

    Binkowski et al. 2018, "Demystifying MMD GANs", eq. 4, with their kernel
    k(a, b) = (a . b / D + 1)^3. Unbiased, so it may be negative where x and y agree.

    Raises:
        ValueError: with fewer than two rows in either.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError("KID needs at least two images on either side")
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    return (_mean_off_diagonal(xx) + _mean_off_diagonal(yy) - 2 * xy.mean()).item()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.double(), b.double()
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_off_diagonal(k: Tensor) -> Tensor:
    n = len(k)
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))
