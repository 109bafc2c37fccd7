"""The end of a cluster on this machine with its driver, even when that is killed.

Ray's node ends with its driver at once, but the workers do so after seconds, and the node's agents
after a minute. So a small process beside the driver waits for the end of a pipe from it, which
comes with the driver's end by any way, and then kills the processes that it saw below the node.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The name of the process that leads a node's workers and agents.
_NODE = "raylet"
_END_SECONDS = 5.0

# It imports little, so that it starts within 50 ms, and takes at most 2% of a core.
_REAPER = """
import os, select, signal, sys, time

def processes():
    table = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                name, _, rest = file.read().partition("(")[2].rpartition(")")
            fields = rest.split()
            table[int(pid)] = name, int(fields[1]), fields[19]
        except OSError:
            pass
    return table

driver, node, known, pause = os.getppid(), sys.argv[1], {}, 0.2
while not select.select([sys.stdin], [], [], pause)[0]:
    began, table = time.monotonic(), processes()
    known = {pid: start for pid, start in known.items() if table.get(pid, ("", 0, ""))[2] == start}
    for pid, (name, parent, start) in sorted(table.items()):
        if parent in known or (parent == driver and name == node):
            known[pid] = start
    pause = max(0.2, 50 * (time.monotonic() - began))
table = processes()
for pid, start in known.items():
    if table.get(pid, ("", 0, ""))[2] == start:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
"""


@contextmanager
def reaper() -> Iterator[None]:
    """End what is left of a node that the block inside started, when it ends or this process does.

    Where there is no /proc, as on macOS, Ray's processes end in their own time.
    """
    if not Path("/proc/self/stat").exists():
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _REAPER, _NODE],
        stdin=subprocess.PIPE,
        start_new_session=True,  # or the Ctrl-C of a terminal would end it too
    )
    assert process.stdin
    try:
        yield
    finally:
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
