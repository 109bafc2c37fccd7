"""Real worker processes over gloo, for tests that need no Ray."""

import gc
import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

_ON_CPU = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def run_workers(
    world: int,
    folder: Path,
    work: Callable[..., None],
    *arguments: Any,
    start: Literal["forkserver", "spawn"] = "forkserver",
) -> None:
    """Call `work(rank, *arguments)` in `world` processes that have a process group.

    They meet by a file, which no port can be taken from and which outlives whoever is first done.
    They are forked from a server that has made the imports for all of them, or spawned, which takes
    5 s of CPU each, where they need this process's environment from their start.
    """
    # Torch imports the second with the first step of an optimiser.
    forkserver.set_forkserver_preload(["cluster.engine.build", "torch._dynamo"])
    # Parts of other packages are looked for when the server imports ours.
    with patch.dict(os.environ, _ON_CPU | {"PYTHONPATH": os.pathsep.join(sys.path)}):
        mp.start_processes(
            _worker,
            (world, str(folder / "meeting"), work, arguments),
            nprocs=world,
            start_method=start,
        )


def _worker(rank: int, world: int, meeting: str, work: Callable[..., None], arguments: Any) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    import cluster.engine.build  # noqa: F401

    # DeepSpeed collects garbage with every engine: half a second, through all that was imported.
    gc.freeze()
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=world)
    work(rank, *arguments)
    # A worker that leaves while another still talks to it would take that one down.
    dist.barrier()
    dist.destroy_process_group()
