"""Degradations as a person names them."""

import math

import numpy as np

from metatrain.base.errors import UserError
from metatrain.data.degradations.degradation import Degradation, Subsampling
from metatrain.data.degradations.kernel_files import read_kernels
from metatrain.data.degradations.kernels import MOST_SIDE, gaussian

# The side of a Gaussian kernel, of sigma.
_SIDE = 8
_GAUSSIAN = "gaussian:"


def named_degradation(kernel: str, scale: int, subsampling: Subsampling) -> Degradation:
    """Return the degradation with a kernel that is named.

    Args:
        kernel: "bicubic", "gaussian:SIGMA" (in pixels of the high resolution), or a .npy or .mat
            file of one kernel: a path or any fsspec URL.
        scale: the high resolution divided by the low one.
        subsampling: after a blur; "bicubic" has its own.

    Raises:
        UserError: when it names no kernel.
    """
    if kernel == "bicubic":
        return Degradation(scale)
    if kernel.startswith(_GAUSSIAN):
        return Degradation(scale, gaussian_of(_sigma(kernel)), subsampling)
    if not kernel:
        raise UserError("the kernel has no name; give bicubic, gaussian:SIGMA, or a file.")
    kernels = read_kernels(kernel)
    if len(kernels) > 1:
        raise UserError(f"{kernel} holds {len(kernels)} kernels; name a file of one.")
    return Degradation(scale, kernels[0], subsampling)


def gaussian_of(sigma: float) -> np.ndarray:
    """Return an isotropic Gaussian kernel that is wide enough for `sigma`."""
    return gaussian(min(MOST_SIDE, math.ceil(_SIDE * sigma) | 1), (sigma, sigma))


def _sigma(kernel: str) -> float:
    text = kernel.removeprefix(_GAUSSIAN)
    try:
        sigma = float(text)
    except ValueError:
        sigma = math.nan
    if not 0.05 <= sigma <= 12:
        raise UserError(f"'{text}' in kernel {kernel} is no sigma; give 0.05 to 12 pixels.")
    return sigma
