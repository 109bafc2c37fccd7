"""Choosing how to differentiate through the inner loop: by memory predicted and time measured."""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metatrain.batch import Batch
from metatrain.inner.gradient import Unrolled
from metatrain.inner.loop import InnerLoop
from metatrain.parameters import Parameters

# Of the free memory, what an episode's graph may take: theta, gradients and moments want some too.
_SHARE = 0.5
_GIB = 2**30


class Choice(NamedTuple):
    """What `meta.gradient` should be, and a sentence that says why."""

    gradient: str
    reason: str


def choose(
    episode_gradient: Callable[[str], Any],
    inner: InnerLoop,
    theta: Parameters,
    support: Callable[[int], Batch],
    sharing: int = 1,
) -> Choice:
    """Unrolled where its graph fits into memory and it is faster, else adjoint.

    Args:
        episode_gradient: computes one episode's outer gradient in the way that it is given.
        inner: the inner loop, for its number of steps and to measure one of them.
        theta: the meta-parameters.
        support: an episode's support batches.
        sharing: workers that share the free memory.
    """
    step = graph_bytes(inner, theta, support)
    wanted, free = step * inner.config.steps, free_memory(next(iter(theta.values())).device)
    sizes = f"the graph of {inner.config.steps} inner steps takes {wanted / _GIB:.2f} GiB"
    if wanted > _SHARE * free / sharing:
        return Choice("adjoint", f"{sizes}, and {free / sharing / _GIB:.2f} GiB are free")
    seconds = {
        way: _seconds(lambda way=way: episode_gradient(way)) for way in ("adjoint", "unrolled")
    }
    fastest = min(seconds, key=lambda way: seconds[way])
    times = " and ".join(f"{way} took {t:.3f} s" for way, t in seconds.items())
    return Choice(fastest, f"{sizes}, and for an episode {times}")


def graph_bytes(inner: InnerLoop, theta: Parameters, support: Callable[[int], Batch]) -> int:
    """Bytes that autograd keeps of one inner step when it is to be differentiated."""
    own = {tensor.untyped_storage().data_ptr() for tensor in theta.values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    leaves = {name: p.detach().requires_grad_() for name, p in theta.items()}
    own |= {leaf.untyped_storage().data_ptr() for leaf in leaves.values()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step = next(inner.trace(leaves, support, Unrolled(inner.generator)))
    # Alive until here, or storages would be freed and counted under one address.
    del step
    return sum(kept.values())


def free_memory(device: torch.device) -> int:
    """Bytes that `device` has free, for this container where it has a limit of its own."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError):
        # Unlike the pages above, it counts those that the file cache would give back.
        available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        free = [1024 * int(available[1])] if available else free
    with suppress(OSError, ValueError):
        limit, used = (
            int((Path("/sys/fs/cgroup") / f"memory.{name}").read_text())
            for name in ("max", "current")
        )
        free.append(limit - used)
    return min(free)


def _seconds(compute: Callable[[], Any], repeats: int = 3) -> float:
    """The best of a few, after one to warm up."""
    compute()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        compute()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best
