"""Differentiable augmentation (Zhao et al. 2020, "Differentiable Augmentation for ... GAN")."""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.generators.objectives.sections import Augmentation

# Random numbers that the augmentation of one image needs.
NUMBERS = 7


def augment(images: Tensor, numbers: Tensor, kinds: Collection[Augmentation]) -> Tensor:
    """Augment each image by its numbers, and nothing else; linear or affine in every image.

    Section 3.2 and appendix A of the paper, with its strengths: what is moved in and what is cut
    out is 0.

    Args:
        images: [B, C, H, W] in [-1, 1].
        numbers: uniform, [B, NUMBERS] in [0, 1).
        kinds: the augmentations to apply.
    """
    brightness, saturation, contrast, shift_y, shift_x, cut_y, cut_x = numbers.to(images).unbind(1)
    if "colour" in kinds:
        images = _coloured(images, brightness, saturation, contrast)
    if "translation" in kinds:
        images = _shifted(_shifted(images, shift_y, 2), shift_x, 3)
    if "cutout" in kinds:
        images = images * _uncut(images, cut_y, cut_x)
    return images


def _coloured(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    brightness, saturation, contrast = (
        u[:, None, None, None] for u in (brightness, saturation, contrast)
    )
    images = images + brightness - 0.5
    grey = images.mean(dim=1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (0.5 + contrast) * (images - mean)


def _shifted(images: Tensor, share: Tensor, dim: int) -> Tensor:
    """Shift images along one dimension by up to an eighth of it."""
    size = images.shape[dim]
    most = max(1, round(size / 8))
    shift = (share * (2 * most + 1)).long().clamp(max=2 * most)
    padding = (0, 0, most, most) if dim == 2 else (most, most)
    padded = F.pad(images, padding)
    places = torch.arange(size, device=images.device) + shift[:, None]
    index = places[:, None, :, None] if dim == 2 else places[:, None, None, :]
    return padded.gather(dim, index.expand(images.shape))


def _uncut(images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return masks [B, 1, H, W] that are 0 in a square of half the side, and else 1."""
    size = images.shape[-1]
    places = torch.arange(size, device=images.device)

    def inside(share: Tensor) -> Tensor:
        start = (share * (size + 1)).long() - size // 4
        return (places >= start[:, None]) & (places < start[:, None] + size // 2)

    return (~(inside(y)[:, None, :, None] & inside(x)[:, None, None, :])).to(images.dtype)
