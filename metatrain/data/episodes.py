"""Episodes: which images of which task, as a pure function of where training stands.

``episode = f(seed, split, step, slot)``. Nothing is remembered between calls, so the same episodes
come at any world size, and resuming needs nothing but the step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.data.batch import Batch, support_batch


@dataclass(frozen=True)
class Episode:
    """One task's support [K, C, H, W] and query [Q, C, H, W], disjoint, in [-1, 1]."""

    task: str
    support: Tensor
    query: Tensor
    seed: int

    def support_batch(self, draw: int = 0) -> Batch:
        """The support, each image conditioned on the others."""
        return support_batch(self.support, self.seed, draw)

    def query_batch(self, draw: int = 0) -> Batch:
        """The query, conditioned on the support."""
        index = torch.full((len(self.query),), -1, device=self.query.device)
        return Batch(self.query, self.support, index, self.seed + 1, draw)

    def whole_batch(self, draw: int = 0) -> Batch:
        """Support and query together, conditioned on the support less the image itself."""
        parts = (self.support_batch(), self.query_batch())
        images = torch.cat([part.images for part in parts])
        index = torch.cat([part.support_index for part in parts])
        return Batch(images, self.support, index, self.seed, draw)

    def to(self, device: torch.device) -> "Episode":
        """The same episode on `device`."""
        return Episode(self.task, self.support.to(device), self.query.to(device), self.seed)
