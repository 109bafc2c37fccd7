"""Names of processes that outlive them, so that a process can be known to be gone."""

import os
import socket
import subprocess
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# States in /proc of a process that runs no more, though its parent has not noticed yet.
_ENDED = ("Z", "X")


class ProcessName(NamedTuple):
    """The name of a process: no other, before or after it, ever has the same.

    Attributes:
        kernel: the start of the machine, and there the namespace that counts processes.
        pid: its number, which the system gives again to later processes.
        started: when it started, as the system tells it.
    """

    kernel: str
    pid: int
    started: str

    @property
    def is_alive(self) -> bool | None:
        """Whether it still runs; None where this process cannot know: on another machine."""
        if self.kernel != _kernel():
            return None
        return _started(self.pid) == self.started


def this_process() -> ProcessName:
    """Return the name of this process."""
    pid = os.getpid()
    return ProcessName(_kernel(), pid, _started(pid) or "")


@lru_cache(maxsize=1)
def _kernel() -> str:
    with suppress(OSError):
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _started(pid: int) -> str | None:
    """Return the start of the process that has this number now; None where none has."""
    if not Path("/proc/self/stat").exists():
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    with suppress(OSError):
        # The name of the program comes before, in brackets, and may have any characters.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in _ENDED else fields[19]
    return None
