"""PSNR and SSIM, for images that have one right answer each, or one original to be a copy of."""

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

# Values lie in [-1, 1].
_RANGE = 2.0


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Peak signal to noise ratio of each pair in dB, 10 log10(range^2 / mean square error).

    Torchmetrics', image by image; infinite for equal images.

    Args:
        images: [N, C, H, W] in [-1, 1].
        originals: the same shape.

    Returns:
        [N]
    """
    pairs = zip(images.double(), originals.double(), strict=True)
    return torch.stack([peak_signal_noise_ratio(a, b, data_range=_RANGE) for a, b in pairs])


def ssim(images: Tensor, originals: Tensor) -> Tensor:
    """Structural similarity of each pair; 1 for equal images.

    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity",
    eq. 13, by torchmetrics, with their Gaussian window of 11 x 11 pixels and sigma 1.5 about every
    pixel; images are mirrored at their edges.

    Args:
        images: [N, C, H, W] in [-1, 1].
        originals: the same shape.

    Returns:
        [N]
    """
    pair = (images.double(), originals.double())
    found = structural_similarity_index_measure(*pair, data_range=_RANGE, reduction="none")
    assert isinstance(found, torch.Tensor)  # a pair only where more is asked for
    return found.reshape(len(images))
