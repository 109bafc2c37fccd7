"""The meeting of workers that are all on one machine, where no stranger may listen or speak.

Over the network, torch's workers meet at a store that listens on every interface and asks nobody
who they are. On one machine they meet by a file that only their user can read, and then talk over
the loopback interface.
"""

import os
import socket
import tempfile
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

# The interfaces that torch's backends listen on.
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_LOOPBACK = ("lo", "lo0")


def new_meeting() -> str:
    """Create the file where workers of this machine meet, for this user alone.

    Nobody else removes it, and no later workers may meet there.
    """
    descriptor, path = tempfile.mkstemp(prefix="metatrain-", suffix=".meeting")
    os.close(descriptor)
    return path


def meet(meeting: str, backend: str, *, number: int, world: int, timeout: timedelta) -> None:
    """Make torch's process group with the other workers of this machine. Collective.

    Args:
        meeting: a file by `new_meeting`.
        backend: torch's, such as gloo.
        number: this worker's rank.
        world: the number of workers.
        timeout: the longest wait for the others, in each collective too.
    """
    loopback = next(name for _, name in socket.if_nameindex() if name in _LOOPBACK)
    for variable in _INTERFACES:
        os.environ.setdefault(variable, loopback)
    url = Path(meeting).as_uri()
    dist.init_process_group(backend, url, timeout=timeout, world_size=world, rank=number)
