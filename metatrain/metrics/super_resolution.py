"""PSNR and SSIM of enlarged images, as the literature on super-resolution measures them.

Both are of the luma Y in 16 .. 235 (ITU-R BT.601, MATLAB's rgb2ycbcr), rounded to 8 bits, and
without a border as wide as the scale. MZSR's published numbers are these; the enlarged image itself
is not rounded there, which changes the fourth decimal. Computed in float64.
"""

import math

import numpy as np

_LUMA = np.array([65.481, 128.553, 24.966]) / 255
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr_y(image: np.ndarray, truth: np.ndarray, shave: int) -> float:
    """Compute the peak signal-to-noise ratio of Y, in dB, with the peak 255.

    Args:
        image: [H, W, 3] in 0 .. 255, or [H, W] for a grey image.
        truth: the same.
        shave: pixels that are left out at each side, the scale.
    """
    a, b = (luma(x, shave) for x in (image, truth))
    error = float(((a - b) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def ssim_y(image: np.ndarray, truth: np.ndarray, shave: int) -> float:
    """Compute the structural similarity of Y (Wang et al. 2004, eq. 13), by `psnr_y`'s arguments.

    The window is a Gaussian of 11 pixels and sigma 1.5, and only whole windows count.
    """
    a, b = (luma(x, shave) for x in (image, truth))
    mean_a, mean_b = _windowed(a), _windowed(b)
    variance_a = _windowed(a * a) - mean_a**2
    variance_b = _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    total = (mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2)
    return float((similar / total).mean())


def luma(image: np.ndarray, shave: int) -> np.ndarray:
    """Return the rounded Y in 16 .. 235 of an image in 0 .. 255, without its border."""
    values = image.astype(np.float64)
    y = 16 + (values @ _LUMA if image.ndim == 3 else values * _LUMA.sum())
    return y.round()[shave : y.shape[0] - shave, shave : y.shape[1] - shave]


def _windowed(values: np.ndarray) -> np.ndarray:
    """Return the Gaussian mean around every place that has a whole window."""
    places = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-(places**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(values, _WINDOW, axis)
        values = windows @ weights
    return values
