"""PSNR and SSIM: the fidelity of images to one original each.

Each function imports torchmetrics itself: with the SciPy and matplotlib that it imports it takes
two seconds, and everything that reads an evaluation imports this file.
"""

import torch
from torch import Tensor

# The range of values in [-1, 1].
_RANGE = 2.0


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each pair in dB; infinite for equal images.

    10 log10(range^2 / mean square error), computed by torchmetrics image by image.

    Args:
        images: [N, C, H, W] in [-1, 1].
        originals: the same shape.

    Returns:
        [N]
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    pairs = zip(images.double(), originals.double(), strict=True)
    return torch.stack([peak_signal_noise_ratio(a, b, data_range=_RANGE) for a, b in pairs])


def ssim(images: Tensor, originals: Tensor) -> Tensor:
    """Return the structural similarity of each pair; 1 for equal images.

    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity",
    eq. 13, computed by torchmetrics with their Gaussian window of 11 x 11 pixels and sigma 1.5
    around every pixel. Images are mirrored at their edges.

    Args:
        images: [N, C, H, W] in [-1, 1].
        originals: the same shape.

    Returns:
        [N]
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    pair = (images.double(), originals.double())
    similarity = structural_similarity_index_measure(*pair, data_range=_RANGE, reduction="none")
    assert isinstance(similarity, torch.Tensor)  # a tuple only where the full image is requested
    return similarity.reshape(len(images))
