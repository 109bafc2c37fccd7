"""The content of a lease: who holds it, told to others and compared by them."""

import getpass
import json
import os
import re
import secrets
import socket
from datetime import UTC, datetime
from typing import NamedTuple

from metatrain.base.processes import ProcessName, this_process

# A lease may lie in a stranger's folder, and is printed.
_PRINTABLE = re.compile(r"[\w .:@+-]{1,100}")


class Holder(NamedTuple):
    """The holder of a lease.

    Attributes:
        token: a random number, which no other lease has.
        work: what it does, such as "trains".
        user: who started it.
        host: the name of its machine.
        since: when it took the lease.
        process: its process.
        beats: how often it has renewed the lease.
    """

    token: str
    work: str
    user: str
    host: str
    since: str
    process: ProcessName
    beats: int = 0

    def encode(self) -> bytes:
        """Return the bytes of the lease."""
        return json.dumps(self._asdict() | {"process": self.process._asdict()}, indent=1).encode()

    def renewed(self) -> "Holder":
        """Return the holder after one more beat."""
        return self._replace(beats=self.beats + 1)

    def __str__(self) -> str:
        return (
            f"{self.user} on {self.host} {self.work} it, as process {self.process.pid}, since "
            f"{self.since}"
        )


def this_holder(work: str) -> Holder:
    """Return this process as a new holder."""
    return Holder(
        token=secrets.token_hex(16),
        work=work,
        user=_user(),
        host=socket.gethostname(),
        since=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        process=this_process(),
    )


def parse_holder(data: bytes) -> Holder | None:
    """Parse the bytes of a lease; None where they are none, or could not be printed."""
    try:
        values = json.loads(data)
        holder = Holder(**values | {"process": ProcessName(**values["process"])})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    process = holder.process
    printed = (holder.token, holder.work, holder.user, holder.host, holder.since)
    is_possible = (
        all(isinstance(text, str) for text in (*printed, process.kernel, process.started))
        and all(type(number) is int and number >= 0 for number in (process.pid, holder.beats))
        and all(map(_PRINTABLE.fullmatch, printed))
    )
    return holder if is_possible else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return str(os.getuid())
