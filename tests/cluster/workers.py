"""Real worker processes over gloo, for tests that need no Ray."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_workers(world: int, folder: Path, work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(rank, *arguments)` in `world` processes that have a process group.

    They meet by a file, which no port can be taken from and which outlives whoever is first done.
    """
    mp.spawn(_worker, (world, str(folder / "meeting"), work, arguments), nprocs=world)


def _worker(rank: int, world: int, meeting: str, work: Callable[..., None], arguments: Any) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    os.environ |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    torch.set_num_threads(1)
    import cluster.engine.build  # noqa: F401

    # DeepSpeed collects garbage with every engine: half a second, through all that was imported.
    gc.freeze()
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=world)
    work(rank, *arguments)
    # A worker that leaves while another still talks to it would take that one down.
    dist.barrier()
    dist.destroy_process_group()
