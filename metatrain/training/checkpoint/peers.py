"""The workers that write and read checkpoints together."""

from abc import ABC, abstractmethod

from torch import Tensor
from typing_extensions import override

from metatrain.training.exchange import Item


class Peers(ABC):
    """All workers as one of them sees them; every method is called by those concerned alike.

    Attributes:
        rank: number of this worker.
        world: how many workers there are.
    """

    rank: int
    world: int

    @abstractmethod
    def gather(self, item: Item) -> list[Item]:
        """Return what each of them has, in the order of ranks. Collective."""

    @abstractmethod
    def send(self, tensor: Tensor, receiver: int) -> None:
        """Send a tensor on the CPU to the worker that calls `receive` for it."""

    @abstractmethod
    def receive(self, tensor: Tensor, sender: int) -> None:
        """Fill a tensor on the CPU with what the worker `sender` sends."""


class _Alone(Peers):
    rank, world = 0, 1

    @override
    def gather(self, item: Item) -> list[Item]:
        return [item]

    @override
    def send(self, tensor: Tensor, receiver: int) -> None:
        raise AssertionError("there is no other worker")

    @override
    def receive(self, tensor: Tensor, sender: int) -> None:
        raise AssertionError("there is no other worker")


ALONE: Peers = _Alone()
