"""The workers of a process group, as those that write and read checkpoints together."""

import torch.distributed as dist
from torch import Tensor
from typing_extensions import override

from cluster.engine.gather import gather_values
from metatrain.training.checkpoint.peers import Peers
from metatrain.training.exchange import Item


class ProcessGroupPeers(Peers):
    """All workers over a process group that has them all.

    Args:
        group: torch's default group if None; of gloo where tensors are sent.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._group = group

    @override
    def gather(self, item: Item) -> list[Item]:
        return gather_values(item, self._group)

    @override
    def send(self, tensor: Tensor, receiver: int) -> None:
        dist.send(tensor, receiver, self._group)

    @override
    def receive(self, tensor: Tensor, sender: int) -> None:
        dist.recv(tensor, sender, self._group)
