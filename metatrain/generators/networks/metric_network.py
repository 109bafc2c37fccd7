"""The metric network: its features tell tasks apart, and serve metrics and perceptual losses."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from metatrain.generators.networks.layers import group_norm

FEATURES = 64


class MetricNetwork(nn.Module):
    """A small convolutional network from images in [-1, 1] to features of mean square 1.

    KID's kernel was designed for features of this scale.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, stride=2) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(group_norm(w) for w in widths[1:])
        self.out = nn.Linear(4 * widths[-1], FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, 64] of images [N, C, H, W]."""
        flat = F.adaptive_avg_pool2d(self.layers(images)[-1], 2).flatten(1)
        return F.normalize(self.out(flat), dim=1) * FEATURES**0.5

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return the activations of each layer, of images [N, C, H, W]."""
        layers = [images]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            layers.append(F.relu(norm(convolution(layers[-1]))))
        return layers[1:]
