"""The machine's cores and free memory."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_every_core(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply `work` to each item on one thread per core; yield the results in order.

    On a CPU the operations of a small batch are too short for torch to divide (measured on 2
    cores: 1.8 times as fast as torch's own threads).
    """
    single = partial(torch.set_num_threads, 1)
    with ThreadPoolExecutor(cores(), initializer=single) as pool:
        yield from pool.map(work, items)


def cores() -> int:
    """Count the cores that this process may use, or all cores where the system cannot tell."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def free_memory(device: torch.device) -> int:
    """Return the free bytes of `device`, within the limit of this container if it has one."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    # All of the memory: systems without /proc, such as macOS, do not tell how much of it is free.
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError):
        # Includes what the file cache would give back, unlike SC_AVPHYS_PAGES.
        available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        free += [1024 * int(available[1])] if available else []
    with suppress(OSError, ValueError):
        limit, used = (
            int((Path("/sys/fs/cgroup") / f"memory.{name}").read_text())
            for name in ("max", "current")
        )
        free.append(limit - used)
    return min(free)
