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


class Interruption:
    """The first Ctrl-C or SIGTERM (as by `docker stop`, `scancel` or systemd) of a block.

    The signal is kept here and not in the exception: Ray raises a new KeyboardInterrupt instead of
    one that it meets in its own code.
    """

    def __init__(self) -> None:
        self._number = int(signal.SIGINT)
        self._time: float | None = None

    @property
    def status(self) -> int:
        """The exit status after the interruption: 128 and the number of its signal."""
        return 128 + self._number

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Raise KeyboardInterrupt in the block inside at the first signal.

        A signal that the caller ignores, as under `nohup`, stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt at the first signal; end the process at a second one."""
        if self._time is None:
            self._number, self._time = number, time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._time > _SAME_SECONDS:
            os.write(2, b"\nended at once.\n")
            os._exit(128 + number)
