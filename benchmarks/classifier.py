"""The classifier whose accuracy on real images is the measure, the same for every system."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metatrain.data.tasks.augmented import Augmentation, augmented

_BATCH = 64


def trained(
    images: Tensor,
    labels: Tensor,
    *,
    classes: int,
    steps: int,
    seed: int,
    augmentation: Augmentation | None = None,
) -> nn.Module:
    """Train a small convolutional network.

    Args:
        images: [N, C, S, S] in [-1, 1], of a side that 4 divides.
        labels: [N] of them, below `classes`.
        classes: number of classes.
        steps: batches of 64.
        seed: of the weights, the batches and the augmentation.
        augmentation: changes images at random, anew in every batch.
    """
    torch.manual_seed(seed)
    stream = np.random.default_rng(seed)
    network = _network(images.shape[1], images.shape[2], classes)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(steps):
        rows = stream.integers(len(labels), size=_BATCH)
        batch = augmented(images[rows], augmentation, stream) if augmentation else images[rows]
        optimizer.zero_grad()
        F.cross_entropy(network(batch), labels[rows]).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose label the network finds."""
    return (network(images).argmax(dim=1) == labels).float().mean().item()


def _network(channels: int, side: int, classes: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * (side // 4) ** 2, 64), nn.ReLU(), nn.Linear(64, classes)),
    )
