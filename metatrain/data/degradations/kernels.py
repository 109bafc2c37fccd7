"""Blur kernels: arrays [k, k] of an odd side that sum to 1, and blurring by one."""

import numpy as np

# The longest side of a kernel, in pixels.
MOST_SIDE = 101


def gaussian(size: int, sigma: tuple[float, float], angle: float = 0.0) -> np.ndarray:
    """Return a Gaussian kernel [size, size].

    Args:
        size: its odd side in pixels.
        sigma: standard deviations along its two axes, in pixels.
        angle: of its first axis to the horizontal, in radians.
    """
    y, x = np.mgrid[:size, :size] - size // 2
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    return normalised(np.exp(-((along / sigma[0]) ** 2 + (across / sigma[1]) ** 2) / 2))


def motion(size: int, length: float, angle: float) -> np.ndarray:
    """Return the kernel [size, size] of a straight motion of `length` pixels."""
    points = max(2, int(8 * length))
    way = np.linspace(-length / 2, length / 2, points)
    x, y = size // 2 + way * np.cos(angle), size // 2 + way * np.sin(angle)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    kernel = np.zeros((size + 1, size + 1))
    for right, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - right - (x - column)) * np.abs(1 - down - (y - row))
        np.add.at(kernel, (row + down, column + right), share)
    return normalised(kernel[:size, :size])


def normalised(kernel: np.ndarray) -> np.ndarray:
    """Return `kernel` with the sum 1."""
    return kernel / kernel.sum()


def blurred(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate an image [..., H, W] with a kernel of an odd side, with symmetric edges."""
    reach = len(kernel) // 2
    edges = [(0, 0)] * (image.ndim - 2) + [(reach, reach)] * 2
    padded = np.pad(image, edges, mode="symmetric")
    shape = padded.shape[-2:]
    spectrum = np.fft.rfft2(padded) * np.fft.rfft2(kernel[::-1, ::-1], shape)
    return np.fft.irfft2(spectrum, shape)[..., 2 * reach :, 2 * reach :]
