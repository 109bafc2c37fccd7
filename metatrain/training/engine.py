"""The engine: holds meta-parameters, however sharded, and applies outer gradients."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from metatrain.base.parameters import Parameters


class Engine(ABC):
    """Holds the meta-parameters, however sharded, and applies outer gradients to them.

    A tree is full, shaped like theta, or local: the values that this worker keeps, flat where that
    is a part of them. What goes value by value, such as an average, is done on local trees. Of
    itself an engine keeps everything, and the two are the same.

    Attributes:
        rank: this worker's place among those that take different episodes.
        world: how many those are.
        sharded: whether learners see local trees, and not full ones.
    """

    rank: int
    world: int
    sharded: bool = False

    @abstractmethod
    def parameters(self) -> Parameters:
        """Theta by name as learners see it: float32, not to be written to. Collective."""

    @abstractmethod
    def apply(self, gradient: Parameters, lr: float) -> None:
        """Average `gradient` over the workers and take one optimiser step. Collective."""

    @abstractmethod
    def mean(self, values: list[float]) -> list[float]:
        """The mean of each value over the workers. Collective."""

    @abstractmethod
    def gather(self, own: list[Any]) -> list[Any]:
        """What each worker has, one thing for each of its slots, in the order of slots.

        Collective.
        """

    @abstractmethod
    def optimizer_state(self) -> Parameters:
        """The optimiser's tensors by names of the engine's own, whole. Collective."""

    @property
    def device(self) -> torch.device:
        """Where trees lie."""
        return next(iter(self.local().values())).device

    def local(self) -> Parameters:
        """What this worker keeps of theta: float32, not to be written to."""
        return self.parameters()

    def localize(self, full: Parameters) -> Parameters:
        """What this worker keeps of a full tree, which every worker has."""
        return {name: value.to(self.device) for name, value in full.items()}

    def full(self, local: Parameters) -> Parameters:
        """The full tree of what all workers keep. Collective.

        For checkpoints: in the host's memory, if it is not whole already.
        """
        return local

    def norm(self, tree: Parameters) -> Tensor:
        """The Euclidean length of a tree as learners see it. Collective."""
        return torch.nn.utils.get_total_norm(list(tree.values()))
