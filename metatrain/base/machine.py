"""The machine's cores and free memory, told without torch."""

import os
import re
from contextlib import suppress
from pathlib import Path


def cores() -> int:
    """Count the cores that this process may use, or all cores where the system cannot tell."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def free_memory() -> int:
    """Return the free bytes of memory, within the limit of this container if it has one."""
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
