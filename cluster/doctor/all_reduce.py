"""How fast workers of different nodes add up what each of them has."""

import os
import socket
import time
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayError

from cluster.placement import on_node

# Bytes of the tensor, and how often it is reduced; the first time is not counted.
_SIZE, _TIMES = 64_000_000, 3
_PATIENCE = 120.0


@ray.remote(num_cpus=0, max_restarts=0)
class _Rank:
    def address(self) -> tuple[str, int]:
        """Where the others find this one."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def reduce(self, rank: int, world: int, address: tuple[str, int], backend: str) -> float:
        """Seconds of one all-reduce."""
        host, port = address
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
        patience = timedelta(seconds=_PATIENCE / 2)
        dist.init_process_group(backend, rank=rank, world_size=world, timeout=patience)
        device = torch.device("cuda" if backend == "nccl" else "cpu")
        tensor = torch.ones(_SIZE // 4, device=device)
        dist.all_reduce(tensor)
        _settle(device)
        started = time.perf_counter()
        for _ in range(_TIMES):
            dist.all_reduce(tensor)
        _settle(device)
        seconds = (time.perf_counter() - started) / _TIMES
        assert tensor[0] == world ** (1 + _TIMES)
        dist.destroy_process_group()
        return seconds


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
    dist.barrier()


def all_reduce(nodes: list[str], *, gpus: bool) -> float:
    """Bytes a second that each of one worker a node sends; of two workers where there is one node.

    Args:
        nodes: ids of nodes.
        gpus: whether each takes a GPU, and NCCL, or gloo.

    Raises:
        RuntimeError: with the reason, when they do not come together.
    """
    places = nodes if len(nodes) > 1 else nodes * 2
    ranks = [_on(node, gpus=gpus) for node in places]
    world = len(ranks)
    try:
        address = ray.get(ranks[0].address.remote(), timeout=_PATIENCE)
        backend = "nccl" if gpus else "gloo"
        reducing = [r.reduce.remote(i, world, address, backend) for i, r in enumerate(ranks)]
        seconds = max(ray.get(reducing, timeout=_PATIENCE))
    except (RayError, TimeoutError) as error:
        lines = [line for line in str(error).strip().splitlines() if line]
        raise RuntimeError(lines[-1] if lines else type(error).__name__) from error
    finally:
        for rank in ranks:
            ray.kill(rank)
    # What a ring sends: all but one part in the reduction, and again in what follows.
    return 2 * (world - 1) / world * _SIZE / seconds


def _on(node: str, *, gpus: bool) -> Any:
    return _Rank.options(scheduling_strategy=on_node(node), num_gpus=int(gpus)).remote()
