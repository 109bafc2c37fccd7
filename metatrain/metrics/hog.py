"""Histograms of oriented gradients: features of shape, without training."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.data.pictures import on_white

_ORIENTATIONS, _CELLS, _BLOCK, _CLIP = 9, 8, 2, 0.2


class Hog:
    """The feature space of histograms of oriented gradients.

    Dalal and Triggs 2005, "Histograms of Oriented Gradients for Human Detection": gradients by
    centred differences, of the channel in which they are largest; 9 unsigned orientations, each
    vote shared between the two nearest; cells averaged on a grid of 8 x 8 at any image size;
    overlapping blocks of 2 x 2 cells normalised by L2-Hys. The features are scaled to mean square
    1, the scale that KID's kernel was designed for.
    """

    name, sha256 = "HOG", ""

    def features(self, images: Tensor) -> Tensor:
        """Return features [..., 1764] of images [..., C, H, W]."""
        lead = images.shape[:-3]
        cells = F.adaptive_avg_pool2d(_votes(on_white(images).flatten(0, -4)), _CELLS)
        blocks = F.unfold(cells, _BLOCK).transpose(1, 2)
        hys = F.normalize(F.normalize(blocks, dim=2).clamp_max(_CLIP), dim=2)
        features = F.normalize(hys.flatten(1), dim=1) * math.sqrt(hys[0].numel())
        return features.unflatten(0, lead)


def _votes(images: Tensor) -> Tensor:
    """Spread the gradient magnitude of every pixel over planes of orientation [N, 9, H, W]."""
    dy, dx = _strongest(*_differences(images))
    magnitude = torch.hypot(dx, dy)
    place = torch.remainder(torch.atan2(dy, dx), math.pi) * (_ORIENTATIONS / math.pi) - 0.5
    lower = place.floor()
    share = place - lower
    votes = magnitude.new_zeros(len(images), _ORIENTATIONS, *images.shape[-2:])
    for plane, weight in ((lower, 1 - share), (lower + 1, share)):
        index = torch.remainder(plane, _ORIENTATIONS).long()
        votes.scatter_add_(1, index[:, None], (magnitude * weight)[:, None])
    return votes


def _differences(images: Tensor) -> tuple[Tensor, Tensor]:
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    dy = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    dx = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    return dy, dx


def _strongest(dy: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient [N, H, W] of the channel in which it is largest."""
    channel = torch.hypot(dx, dy).argmax(dim=1, keepdim=True)
    return dy.gather(1, channel)[:, 0], dx.gather(1, channel)[:, 0]
