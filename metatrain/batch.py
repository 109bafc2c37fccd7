"""What a generator is trained on: tensors of one episode, and batches of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metatrain.episodes import EpisodePlan
from metatrain.images import to_array
from metatrain.store import EpisodeStore


@dataclass(frozen=True)
class Batch:
    """Images to learn from, the support they are conditioned on, and the draw's key.

    Attributes:
        images: targets, [B, C, H, W] in [-1, 1].
        support: the condition, [K, C, H, W] in [-1, 1].
        own: [B], the place of each target in the support, or -1 where it is not part of it. A
            generator must not show a target to itself, or it learns to copy.
        seed: with `draw`, determines all noise: the loss is a function of the weights alone.
        draw: which draw for the same images this is (the inner step).
    """

    images: Tensor
    support: Tensor
    own: Tensor
    seed: int
    draw: int


@dataclass(frozen=True)
class Episode:
    """One task's support [K, C, H, W] and query [Q, C, H, W], disjoint, in [-1, 1]."""

    task: str
    support: Tensor
    query: Tensor
    seed: int

    def support_batch(self, draw: int = 0) -> Batch:
        """The support, each image conditioned on the others."""
        own = torch.arange(len(self.support), device=self.support.device)
        return Batch(self.support, self.support, own, self.seed, draw)

    def query_batch(self, draw: int = 0) -> Batch:
        """The query, conditioned on the support."""
        own = torch.full((len(self.query),), -1, device=self.query.device)
        return Batch(self.query, self.support, own, self.seed + 1, draw)

    def whole_batch(self, draw: int = 0) -> Batch:
        """Support and query together, conditioned on the support less the image itself."""
        own = torch.cat([self.support_batch().own, self.query_batch().own])
        return Batch(torch.cat([self.support, self.query]), self.support, own, self.seed, draw)

    def to(self, device: torch.device) -> "Episode":
        """The same episode on `device`."""
        return Episode(self.task, self.support.to(device), self.query.to(device), self.seed)


def read_episode(store: EpisodeStore, plan: EpisodePlan, size: int, channels: int) -> Episode:
    """Read and decode what `plan` names.

    Raises:
        UserError: when the store cannot be read, or hands out something else than was packed.
    """
    encoded = store.read(plan.task)

    def tensor(indices: tuple[int, ...]) -> Tensor:
        return to_tensor([encoded[i] for i in indices], size, channels)

    return Episode(plan.task.name, tensor(plan.support), tensor(plan.query), plan.seed)


def to_tensor(encoded: list[bytes], size: int, channels: int) -> Tensor:
    """Encoded images as one float tensor [N, channels, size, size] in [-1, 1]."""
    pixels = np.stack([to_array(data, size, channels) for data in encoded])
    return torch.from_numpy(pixels).float() / 127.5 - 1.0
