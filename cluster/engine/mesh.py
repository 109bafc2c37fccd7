"""Who works with whom: workers as task groups, each of which holds one copy of what is sharded."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class TaskMesh:
    """World = task groups x shards a group.

    The workers of a group hold the shards of one copy; the peers of a worker are those that hold
    the same shard in the other groups. It is also what DeepSpeed calls an `mpu`, and tells it to
    shard, and to average, within the group alone.

    Attributes:
        group, groups: this worker's task group, and how many there are.
        shard, shards: this worker's place in its group, and how many have one.
    """

    group: int
    groups: int
    shard: int
    shards: int
    _members: dist.ProcessGroup
    _peers: dist.ProcessGroup
    _alone: dist.ProcessGroup

    @classmethod
    def make(cls, shards_per_group: int | None, timeout: timedelta | None = None) -> "TaskMesh":
        """The mesh of the process group that exists. Collective.

        Args:
            shards_per_group: workers a group; None for those of one node. Where groups of that
                size do not come out even, as after a worker was lost for good, the next smaller
                size that does.
            timeout: of what its process groups do; torch's own by default.
        """
        rank, world = dist.get_rank(), dist.get_world_size()
        shards = largest_divisor(world, shards_per_group or _workers_of_a_node(world))
        group, shard = divmod(rank, shards)
        members = range(group * shards, (group + 1) * shards)
        peers = range(shard, world, shards)
        groups = (_process_group(ranks, timeout) for ranks in (members, peers, [rank]))
        return cls(group, world // shards, shard, shards, *groups)

    def sum_over_shards(self, value: Tensor) -> Tensor:
        """The sum of `value` over the workers of the group. Collective in the group."""
        if self.shards > 1:
            dist.all_reduce(value, group=self._members)
        return value

    def gather_shards(self, own: Tensor) -> Tensor:
        """[shards, n], the [n] of every worker of the group. Collective in the group."""
        if self.shards == 1:
            return own[None]
        everyones = own.new_empty(self.shards * len(own))
        dist.all_gather_single(everyones, own, group=self._members)
        return everyones.view(self.shards, -1)

    def mean_of_own_shard(self, rows: Tensor) -> Tensor:
        """[n], of [shards, n] on every worker of the group: its own row's mean over them.

        Collective in the group.
        """
        if self.shards == 1:
            return rows[0]
        own = rows.new_empty(rows.shape[1])
        dist.reduce_scatter_single(own, rows.reshape(-1), group=self._members)
        return own / self.shards

    def mean_over_groups(self, tensors: list[Tensor]) -> list[Tensor]:
        """The mean of each over the groups, in one collective among peers."""
        if self.groups == 1:
            return tensors
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat, group=self._peers)
        parts = (flat / self.groups).split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def gather_from_peers(self, own: list[Any]) -> list[list[Any]]:
        """What each of the peers has, by group. Collective among peers."""
        everyones: list[list[Any]] = [[] for _ in range(self.groups)]
        dist.all_gather_object(everyones, own, group=self._peers)
        return everyones

    # What DeepSpeed asks of an mpu.

    def get_data_parallel_group(self) -> dist.ProcessGroup:
        """The workers that DeepSpeed shards over."""
        return self._members

    def get_data_parallel_world_size(self) -> int:
        """How many they are."""
        return self.shards

    def get_data_parallel_rank(self) -> int:
        """This worker's place among them."""
        return self.shard

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        """This worker alone: no layer is split."""
        return self._alone

    def get_model_parallel_world_size(self) -> int:
        """One."""
        return 1

    def get_model_parallel_rank(self) -> int:
        """The first."""
        return 0


def largest_divisor(world: int, most: int) -> int:
    """The largest number of at most `most` that divides `world`."""
    return next(size for size in range(min(most, world), 0, -1) if world % size == 0)


def _process_group(ranks: Iterable[int], timeout: timedelta | None) -> Any:
    # Those that are in it alone take part, or a thousand workers would meet a thousand times.
    return dist.new_group(list(ranks), timeout=timeout, use_local_synchronization=True)


def _workers_of_a_node(world: int) -> int:
    """As many as every node has; all of them where nodes differ."""
    everyones: list[int] = [0] * world
    dist.all_gather_object(everyones, int(os.environ.get("LOCAL_WORLD_SIZE", world)))
    return everyones[0] if len(set(everyones)) == 1 else world
