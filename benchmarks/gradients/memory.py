"""Peak memory of one system, in a separate process.

    python -m benchmarks.gradients.memory unet 20 1 maml

malloc is configured to return every freed tensor to the system, so that the peak of the resident
set is that of live tensors. The system runs once, which loads and compiles code; the peak is then
reset, and its rise in the second run is the result.
"""

import gc
import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.gradients.cases import Case
from benchmarks.gradients.systems import system

# In bytes: larger tensors are allocated by mmap, whose memory is returned when they are freed.
THRESHOLD = 32768


def peak_memory(name: str, case: Case) -> float:
    """Measure in a new process the MiB that `name` needs at its peak, beyond those at rest."""
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
    """Return the environment in which malloc returns every freed tensor to the system."""
    limits = {"MALLOC_MMAP_THRESHOLD_": f"{THRESHOLD}", "MALLOC_TRIM_THRESHOLD_": f"{THRESHOLD}"}
    # By default glibc stops mapping at 65536 tensors.
    return limits | {"MALLOC_MMAP_MAX_": "1000000"}


def peak_reset() -> None:
    """Reset the peak of this process's resident set to its present size."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(field: str) -> int:
    """Return the KiB of this process's resident set: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    torch.set_num_threads(1)
    network, steps, tasks, name = sys.argv[1:]
    print(_rise(name, Case(network, int(steps), int(tasks))))
