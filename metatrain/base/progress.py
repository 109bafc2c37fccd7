"""Progress of long work: one line that a terminal overwrites, and a short log elsewhere."""

import shutil
import sys
import time
from typing import TextIO


def human_duration(seconds: float) -> str:
    """Format a duration: ``0.4 s``, ``12 s``, ``1 min 20 s``, ``3 h 5 min``."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


class Progress:
    """A line with the number done, the total, the rate and the time left.

    A terminal overwrites the line at most once a second; elsewhere a new line is logged at most
    every five seconds. Work that takes less time prints nothing.

    Args:
        label: the name of the work.
        total: the number of things to do.
        stream: the stream to write to; by default standard error.
    """

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        self._label, self._total = label, total
        self._stream = sys.stderr if stream is None else stream
        self._overwrites = self._stream.isatty()
        self._started = self._printed = time.monotonic()
        self._width = 0

    def update(self, done: int) -> None:
        """Report that `done` things are done, if the last report is long enough ago.

        The clock starts anew while nothing is done, so that the rate is that of the work alone.
        """
        now = time.monotonic()
        if not done:
            self._started = self._printed = now
        if now - self._printed >= (1.0 if self._overwrites else 5.0):
            self._printed = now
            self._print(self._line(done, now - self._started))

    def say(self, message: str) -> None:
        """Print a message on a line of its own."""
        self.close()
        print(message, file=self._stream, flush=True)

    def close(self) -> None:
        """Clear the line."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def _line(self, done: int, elapsed: float) -> str:
        rate = done / elapsed
        left = human_duration((self._total - done) / rate) if rate else "unknown"
        return f"{self._label}: {done:,}/{self._total:,}, {rate:,.1f}/s, ETA {left}"

    def _print(self, line: str) -> None:
        if not self._overwrites:
            print(line, file=self._stream, flush=True)
            return
        # A line that wraps could not be overwritten.
        line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)
