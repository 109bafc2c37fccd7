"""Ctrl-C and SIGTERM: the first lets a command end in order, a second one ends it at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A terminal and a wrapper may both pass on the same Ctrl-C.
_SAME_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """An interruption by SIGTERM, as by `docker stop`, `scancel` or systemd."""


def status_of(interrupt: KeyboardInterrupt) -> int:
    """Return the exit status after an interruption: 128 and the number of its signal."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block inside at the first Ctrl-C or SIGTERM.

    A signal that the caller ignores, as under `nohup`, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    first: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
        if time.monotonic() - first[0] > _SAME_SECONDS:
            os.write(2, b"\nended at once.\n")
            os._exit(128 + number)

    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
