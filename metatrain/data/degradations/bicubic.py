"""Bicubic resampling as a matrix, with a = -0.5, antialiasing and symmetric edges.

Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing", eq. 15; MATLAB's imresize
has the same weights. Those of `torch.nn.functional.interpolate` have a = -0.75.
"""

import math
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def bicubic_weights(size: int, scale: float) -> np.ndarray:
    """Return the weights [round(size * scale), size] that resample a line of `size` values.

    Centres of pixels are kept: value i lies at (i + 0.5) / scale - 0.5. A scale below 1 widens the
    kernel, so that nothing is aliased. Each row sums to 1.
    """
    count, stretch = round(size * scale), min(scale, 1.0)
    centres = (np.arange(count) + 0.5) / scale - 0.5
    taps = math.ceil(4 / stretch) + 2
    places = np.floor(centres - 2 / stretch)[:, None].astype(int) + np.arange(taps)
    values = _cubic(stretch * (centres[:, None] - places))
    values /= values.sum(axis=1, keepdims=True)
    mirrored = places % (2 * size)
    mirrored = np.minimum(mirrored, 2 * size - 1 - mirrored)
    weights = np.zeros((count, size))
    np.add.at(weights, (np.arange(count)[:, None], mirrored), values)
    weights.setflags(write=False)
    return weights


def resampled(image: np.ndarray, scale: float) -> np.ndarray:
    """Resample an image [..., H, W] to [..., round(H * scale), round(W * scale)]."""
    height, width = image.shape[-2:]
    return bicubic_weights(height, scale) @ image @ bicubic_weights(width, scale).T


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
