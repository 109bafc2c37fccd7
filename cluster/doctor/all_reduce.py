"""Measure the bandwidth of an all-reduce between workers on different nodes."""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayError

from cluster.meeting import meet, new_meeting
from cluster.placement import on_node
from metatrain.base.text import reason_of

# The bytes of the tensor, and the number of timed reductions, which follow one for warm-up.
_TENSOR_BYTES, _REPEATS = 64_000_000, 3
_TIMEOUT_SECONDS = 120.0


@ray.remote(num_cpus=0, max_restarts=0)
class _Rank:
    def meeting(self) -> str:
        """Return a file where the other ranks of this machine can meet this one."""
        return new_meeting()

    def address(self) -> tuple[str, int]:
        """Return a host and a free port where ranks of other machines can meet this one."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def reduce(self, rank: int, world: int, place: str | tuple[str, int], backend: str) -> float:
        """Return the seconds of one all-reduce."""
        timeout = timedelta(seconds=_TIMEOUT_SECONDS / 2)
        if isinstance(place, str):
            meet(place, backend, number=rank, world=world, timeout=timeout)
        else:
            host, port = place
            os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
            dist.init_process_group(backend, rank=rank, world_size=world, timeout=timeout)
        device = torch.device("cuda" if backend == "nccl" else "cpu")
        tensor = torch.ones(_TENSOR_BYTES // 4, device=device)
        dist.all_reduce(tensor)
        _synchronize(device)
        start = time.perf_counter()
        for _ in range(_REPEATS):
            dist.all_reduce(tensor)
        _synchronize(device)
        seconds = (time.perf_counter() - start) / _REPEATS
        assert tensor[0] == world ** (1 + _REPEATS)
        dist.destroy_process_group()
        if isinstance(place, str):
            Path(place).unlink(missing_ok=True)
        return seconds


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
    dist.barrier()


def measure_all_reduce(node_ids: list[str], *, gpus: bool) -> float:
    """Return the bytes per second that each worker sends in a ring all-reduce.

    Args:
        node_ids: the nodes, with a worker each; a single node has two workers.
        gpus: whether each worker takes a GPU and uses NCCL, or uses gloo.

    Raises:
        RuntimeError: with the reason, when the workers cannot connect.
    """
    places = node_ids if len(node_ids) > 1 else node_ids * 2
    ranks = [_start_rank(node_id, gpus=gpus) for node_id in places]
    world = len(ranks)
    try:
        place = ranks[0].address if len(node_ids) > 1 else ranks[0].meeting
        where = ray.get(place.remote(), timeout=_TIMEOUT_SECONDS)
        backend = "nccl" if gpus else "gloo"
        results = [r.reduce.remote(i, world, where, backend) for i, r in enumerate(ranks)]
        seconds = max(ray.get(results, timeout=_TIMEOUT_SECONDS))
    except (RayError, TimeoutError) as error:
        raise RuntimeError(reason_of(error)) from error
    finally:
        for rank in ranks:
            ray.kill(rank)
    # Each rank of a ring sends all parts but one in reduce-scatter, and again in all-gather.
    return 2 * (world - 1) / world * _TENSOR_BYTES / seconds


def _start_rank(node_id: str, *, gpus: bool) -> Any:
    return _Rank.options(scheduling_strategy=on_node(node_id), num_gpus=int(gpus)).remote()
