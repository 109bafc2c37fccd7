"""Augmentation: views of one image, moved, turned, scaled, mirrored and coloured at random."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.data.tasks.sections import Augmentation


def augmented(images: Tensor, extents: Augmentation, stream: np.random.Generator) -> Tensor:
    """Return one random view of each image; what lies outside continues the nearest edge.

    Args:
        images: [N, C, H, W] in [-1, 1], grey, RGB or RGBA; alpha keeps its values.
        extents: of the changes.
        stream: of random numbers.

    Returns:
        Views of the same shape, in [-1, 1].
    """
    moved = _moved(images, extents, stream) if _moves(extents) else images
    return _coloured(moved, extents.colour, stream) if extents.colour else moved


def _moves(extents: Augmentation) -> bool:
    return bool(extents.shift or extents.scale or extents.turn or extents.flip)


def _moved(images: Tensor, extents: Augmentation, stream: np.random.Generator) -> Tensor:
    count = len(images)
    angle = np.radians(stream.uniform(-extents.turn, extents.turn, count))
    size = 1 + stream.uniform(-extents.scale, extents.scale, count)
    mirror = 1 - 2 * (stream.random(count) < 0.5) if extents.flip else np.ones(count)
    shift = 2 * stream.uniform(-extents.shift, extents.shift, (count, 2))
    # Places of the view in the image, of which a side reaches from -1 to 1.
    cos, sin = np.cos(angle) / size, np.sin(angle) / size
    rows = [[mirror * cos, -sin, shift[:, 0]], [mirror * sin, cos, shift[:, 1]]]
    places = torch.from_numpy(np.array(rows).transpose(2, 0, 1)).to(images)
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _coloured(images: Tensor, extent: float, stream: np.random.Generator) -> Tensor:
    """Change brightness, contrast and, in colour, saturation and the share of each channel."""
    colours, alpha = images[:, :3], images[:, 3:]
    count, channels = colours.shape[:2]

    def factor(width: int) -> Tensor:
        drawn = np.exp(stream.uniform(-1, 1, (count, width)) * math.log1p(extent))
        return torch.from_numpy(drawn).to(images)[..., None, None]

    mean = colours.mean(dim=(1, 2, 3), keepdim=True)
    colours = mean + factor(1) * (colours - mean)
    if channels == 3:
        grey = colours.mean(dim=1, keepdim=True)
        colours = grey + factor(1) * (colours - grey)
    # Of light, which is 0 at -1.
    colours = factor(channels) * (colours + 1) - 1
    return torch.cat([colours.clamp(-1, 1), alpha], dim=1)
