"""Features learned from images alone: two views of an image are alike, and other images are not."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.base.progress import Progress
from metatrain.data.pictures import from_uint8
from metatrain.data.tasks.augmented import Augmentation, augmented
from metatrain.learning.auxiliaries import info_nce
from metatrain.metrics.network import MetricNetwork

# Turns and mirrors change the meaning of signs and letters, so views differ little in them.
_VIEWS = Augmentation(shift=0.15, scale=0.25, turn=10, flip=False, colour=0.5)
_BATCH, _RATE, _TEMPERATURE = 256, 2e-3, 0.2


def train_features(images: Tensor, *, steps: int, seed: int) -> MetricNetwork:
    """Train a network by InfoNCE between two random views of each image of a batch.

    SimCLR (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", eq. 1), both ways, with the views of other images for negatives.

    Args:
        images: [N, C, H, W] of uint8, C 1 or 3.
        steps: steps of AdamW.
        seed: of weights, batches and views.
    """
    stream = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MetricNetwork(images.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    progress = Progress("learning features", steps)
    for step in range(steps):
        batch = stream.integers(len(images), size=min(_BATCH, len(images)))
        originals = from_uint8(images[batch])
        one, other = (network(augmented(originals, _VIEWS, stream)) for _ in range(2))
        loss = info_nce(one, other, _TEMPERATURE).mean() + info_nce(other, one, _TEMPERATURE).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.update(step + 1)
    progress.close()
    return network.eval()


@torch.no_grad()
def features_of(network: MetricNetwork, images: Tensor) -> Tensor:
    """Return features [N, D] of length 1 of images [N, C, H, W] of uint8."""
    return torch.cat([F.normalize(network(from_uint8(part))) for part in images.split(1024)])
