"""Names of processes that outlive them, so that a process can be known to be gone."""

import os
import socket
import subprocess
import uuid
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
        started = _started(self.pid)
        return _is_hidden_or_gone(self.pid) if started is None else started == self.started


def this_process() -> ProcessName:
    """Return the name of this process."""
    pid = os.getpid()
    return ProcessName(_kernel(), pid, _started(pid) or "")


@lru_cache(maxsize=1)
def _kernel() -> str:
    # With the host's name, since sandboxes on several machines may tell the same of the rest.
    host = socket.gethostname()
    with suppress(OSError):
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{host} {start} {Path('/proc/self/ns/pid').readlink()}"
    return f"{host} {uuid.getnode()}"


def _is_hidden_or_gone(pid: int) -> bool | None:
    """Return None where a process may be hidden from this user, and False where it has ended."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return None
    except (ProcessLookupError, OverflowError):
        pass
    return False


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
