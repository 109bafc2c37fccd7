"""PSNR and SSIM: the fidelity of images to one original each.

They equal torchmetrics' (tested), whose import takes 2.5 s of CPU.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# The range of values in [-1, 1].
_RANGE = 2.0
# The Gaussian window of SSIM, and its constants (Wang et al. 2004, section III.B).
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each pair in dB; infinite for equal images.

    10 log10(range^2 / mean square error).

    Args:
        images: [N, C, H, W] in [-1, 1].
        originals: the same shape.

    Returns:
        [N]
    """
    errors = (images.double() - originals.double()).square().mean(dim=(1, 2, 3))
    return 10 * (math.log10(_RANGE**2) - errors.log10())


def ssim(images: Tensor, originals: Tensor) -> Tensor:
    """Return the structural similarity of each pair; 1 for equal images.

    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity",
    eq. 13, with their Gaussian window of 11 x 11 pixels and sigma 1.5 around every pixel. Images
    are mirrored at their edges.

    Args:
        images: [N, C, H, W] in [-1, 1].
        originals: the same shape.

    Returns:
        [N]
    """
    x, y = images.double(), originals.double()
    means = [_windowed(z) for z in (x, y, x * x, y * y, x * y)]
    mean_x, mean_y, square_x, square_y, product = means
    c1, c2 = (_K1 * _RANGE) ** 2, (_K2 * _RANGE) ** 2
    both = mean_x * mean_y
    squares = mean_x.square() + mean_y.square()
    alike = (2 * both + c1) * (2 * (product - both) + c2)
    most = (squares + c1) * (square_x + square_y - squares + c2)
    return (alike / most).mean(dim=(1, 2, 3))


def _windowed(images: Tensor) -> Tensor:
    """Return the mean under the window around every pixel, of each channel."""
    places = torch.arange(_WINDOW, dtype=torch.float64, device=images.device) - _WINDOW // 2
    line = torch.exp(-places.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    sides = [_WINDOW // 2] * 4
    flat = F.pad(images.flatten(0, 1)[:, None], sides, mode="reflect")
    across = F.conv2d(flat, line.view(1, 1, 1, -1))
    return F.conv2d(across, line.view(1, 1, -1, 1)).view_as(images)
