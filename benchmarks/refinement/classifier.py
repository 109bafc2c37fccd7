"""The classifier whose accuracy on handwriting is the measure, the same for every system."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.refinement.letters import NAMES, Letters
from metatrain.data.tasks.augmented import Augmentation, augmented

# Letters are not mirrored, and have no colours.
STANDARD = Augmentation(flip=False, colour=0.0, turn=15.0, scale=0.2, shift=0.1)
_BATCH = 64


def trained(letters: Letters, *, steps: int, seed: int, augment: bool = False) -> nn.Module:
    """Train a small convolutional network.

    Args:
        letters: to learn from.
        steps: batches of 64.
        seed: of the weights, the batches and the augmentation.
        augment: whether images are moved, turned and scaled at random, anew in every batch.
    """
    torch.manual_seed(seed)
    stream, (images, labels) = np.random.default_rng(seed), letters.tensors()
    network = _network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(steps):
        rows = stream.integers(len(labels), size=_BATCH)
        batch = augmented(images[rows], STANDARD, stream) if augment else images[rows]
        optimizer.zero_grad()
        F.cross_entropy(network(batch), labels[rows]).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, letters: Letters) -> float:
    """Return the share of letters that the network reads."""
    images, labels = letters.tensors()
    return (network(images).argmax(dim=1) == labels).float().mean().item()


def _network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, len(NAMES))),
    )
