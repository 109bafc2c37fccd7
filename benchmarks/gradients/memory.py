"""Peak memory of one system, in a process of its own.

    python -m benchmarks.gradients.memory unet 20 1 maml

Cold and warm are made the same: malloc is told to hand every freed tensor back to the system, so
that the peak of the resident set is that of living tensors. The system runs once, which loads and
compiles code; the peak is then set back, and what counts is how far it rises in the second run.
"""

import gc
import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.gradients.cases import Case
from benchmarks.gradients.systems import system

# In bytes: tensors above go through mmap, whose memory is gone when they are.
THRESHOLD = 32768


def peak_memory(name: str, case: Case) -> float:
    """MiB that `name` needs at most beyond what it holds at rest, measured in a new process."""
    environment = os.environ | give_memory_back()
    arguments = [case.network, str(case.steps), str(case.tasks), name]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gradients.memory", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(result.stdout)


def _rise(name: str, case: Case) -> float:
    run = system(name, case)
    run()
    gc.collect()
    peak_reset()
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1024


def give_memory_back() -> dict[str, str]:
    """The environment in which malloc hands every freed tensor back to the system."""
    limits = {"MALLOC_MMAP_THRESHOLD_": f"{THRESHOLD}", "MALLOC_TRIM_THRESHOLD_": f"{THRESHOLD}"}
    # glibc would give up mapping at 65536 tensors.
    return limits | {"MALLOC_MMAP_MAX_": "1000000"}


def peak_reset() -> None:
    """Set the peak of this process's resident set back to the present."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(field: str) -> int:
    """KiB of this process's resident set: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    torch.set_num_threads(1)
    network, steps, tasks, name = sys.argv[1:]
    print(_rise(name, Case(network, int(steps), int(tasks))))
