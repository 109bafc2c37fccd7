"""Gathering of values by a process group, as bytes, where torch's own would send pickles."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from metatrain.training.exchange import Item, decoded, encoded


def gather_values(value: Item, group: dist.ProcessGroup | None = None) -> list[Item]:
    """Gather the values of all workers of a group, in the order of ranks. Collective.

    Args:
        value: this worker's value, see `metatrain.training.exchange` for what arrives of it.
        group: torch's default group if None.
    """
    device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
    data = encoded(value).to(device)
    lengths = _gathered(torch.tensor([len(data)], device=device), group).flatten().tolist()
    rows = _gathered(F.pad(data, (0, max(lengths) - len(data))), group)
    return [decoded(row[:length]) for row, length in zip(rows, lengths, strict=True)]


def _gathered(fragment: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Gather the [n] of every worker as [workers, n]."""
    world = dist.get_world_size(group)
    everyones = fragment.new_empty(world * len(fragment))
    dist.all_gather_single(everyones, fragment, group=group)
    return everyones.view(world, -1)
