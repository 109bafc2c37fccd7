"""Episodes: the support and the query of one task."""

from dataclasses import dataclass

import torch

from metatrain.data.batch import Batch, support_batch
from metatrain.data.examples import Examples, concatenated


@dataclass(frozen=True)
class Episode:
    """One task's support (K examples) and query (Q examples), disjoint."""

    task: str
    support: Examples
    query: Examples
    seed: int

    def support_batch(self, noise_index: int = 0) -> Batch:
        """Return the support as a batch, each example conditioned on the others."""
        return support_batch(self.support, self.seed, noise_index)

    def query_batch(self, noise_index: int = 0) -> Batch:
        """Return the query as a batch, conditioned on the support."""
        index = torch.full((len(self.query),), -1, device=self.query.target.device)
        return Batch(self.query, self.support, index, self.seed + 1, noise_index)

    def whole_batch(self, noise_index: int = 0) -> Batch:
        """Return support and query as one batch, conditioned on the support without the example."""
        parts = (self.support_batch(), self.query_batch())
        examples = concatenated([part.examples for part in parts])
        index = torch.cat([part.support_index for part in parts])
        return Batch(examples, self.support, index, self.seed, noise_index)

    def to(self, device: torch.device) -> "Episode":
        """Return the same episode on `device`."""
        return Episode(self.task, self.support.to(device), self.query.to(device), self.seed)
