"""The mesh of workers: task groups, each of which holds one copy of what is sharded."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cluster.engine.gather import gather_values
from metatrain.training.exchange import Item


@dataclass(frozen=True)
class TaskMesh:
    """Workers as task groups x shards per group.

    The members of a group hold the shards of one copy; the peers of a worker hold the same shard in
    the other groups. The mesh is also an `mpu` of DeepSpeed, which has it shard and average within
    the group.

    Attributes:
        group, groups: number of this worker's task group, and of all groups.
        shard, shards: number of this worker in its group, and of the group's workers.
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
        """Build the mesh of the existing process group. Collective.

        Args:
            shards_per_group: workers per group; None means those of one node. Where that does not
                divide the workers, as after one was lost for good, the next smaller size that does.
            timeout: timeout of its process groups; torch's own by default.
        """
        rank, world = dist.get_rank(), dist.get_world_size()
        shards = largest_divisor(world, shards_per_group or _workers_of_a_node(world))
        group, shard = divmod(rank, shards)
        members = range(group * shards, (group + 1) * shards)
        peers = range(shard, world, shards)
        groups = (_process_group(ranks, timeout) for ranks in (members, peers, [rank]))
        return cls(group, world // shards, shard, shards, *groups)

    def sum_over_shards(self, value: Tensor) -> Tensor:
        """Sum `value` over the members. Collective in the group."""
        if self.shards > 1:
            dist.all_reduce(value, group=self._members)
        return value

    def gather_shards(self, fragment: Tensor) -> Tensor:
        """Gather the [n] of every member as [shards, n]. Collective in the group."""
        if self.shards == 1:
            return fragment[None]
        everyones = fragment.new_empty(self.shards * len(fragment))
        dist.all_gather_single(everyones, fragment, group=self._members)
        return everyones.view(self.shards, -1)

    def mean_of_fragments(self, rows: Tensor) -> Tensor:
        """Average this worker's row of [shards, n] over the members. Collective in the group."""
        if self.shards == 1:
            return rows[0]
        fragment = rows.new_empty(rows.shape[1])
        dist.reduce_scatter_single(fragment, rows.reshape(-1), group=self._members)
        return fragment / self.shards

    def mean_over_groups(self, tensors: list[Tensor]) -> list[Tensor]:
        """Average each tensor over the groups, in one collective among peers."""
        if self.groups == 1:
            return tensors
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat, group=self._peers)
        parts = (flat / self.groups).split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def gather_from_members(self, item: Item) -> list[Item]:
        """Gather the values of all members, by shard. Collective in the group."""
        return gather_values(item, self._members)

    def gather_from_peers(self, item: Item) -> list[Item]:
        """Gather the values of all peers, by group. Collective among peers."""
        return gather_values(item, self._peers)

    # The interface of DeepSpeed's mpu.

    def get_data_parallel_group(self) -> dist.ProcessGroup:
        """Return the workers that DeepSpeed shards over: the members."""
        return self._members

    def get_data_parallel_world_size(self) -> int:
        """Return their number."""
        return self.shards

    def get_data_parallel_rank(self) -> int:
        """Return this worker's number among them."""
        return self.shard

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        """Return this worker alone: no layer is split."""
        return self._alone

    def get_model_parallel_world_size(self) -> int:
        """Return 1."""
        return 1

    def get_model_parallel_rank(self) -> int:
        """Return 0."""
        return 0


def largest_divisor(world: int, most: int) -> int:
    """Return the largest divisor of `world` that is at most `most`."""
    return next(size for size in range(min(most, world), 0, -1) if world % size == 0)


def _process_group(ranks: Iterable[int], timeout: timedelta | None) -> Any:
    # Only its members take part, or a thousand workers would synchronise a thousand times.
    return dist.new_group(list(ranks), timeout=timeout, use_local_synchronization=True)


def _workers_of_a_node(world: int) -> int:
    """Return the number of workers per node; all of them where nodes differ."""
    everyones = gather_values(int(os.environ.get("LOCAL_WORLD_SIZE", world)))
    return everyones[0] if len(set(everyones)) == 1 else world
