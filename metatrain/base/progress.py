"""Telling a person how far long work has come, without drowning a log file in it."""

import sys
import time
from typing import TextIO


def human_duration(seconds: float) -> str:
    """`seconds` as a person says it: ``0.4 s``, ``12 s``, ``1 min 20 s``, ``3 h 5 min``."""
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
    """A line with done, total, rate and the time left.

    On a terminal the line rewrites itself at most once a second; elsewhere it is a new line at
    most every five seconds, so that a log stays short. Work that is over sooner prints nothing.
    """

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        self._label, self._total = label, total
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._started = self._printed = time.monotonic()
        self._width = 0

    def update(self, done: int) -> None:
        """Say that `done` of the total are finished, if it is time to say something.

        With none done the work begins only now: what was waited for until then is no measure of it.
        """
        now = time.monotonic()
        if not done:
            self._started = self._printed = now
        if now - self._printed >= (1.0 if self._rewrites else 5.0):
            self._printed = now
            self._show(self._line(done, now - self._started))

    def say(self, message: str) -> None:
        """Print a line of its own above the progress line."""
        self.close()
        print(message, file=self._stream, flush=True)

    def close(self) -> None:
        """Clear the line, so that whatever is printed next starts on a clean one."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def _line(self, done: int, elapsed: float) -> str:
        rate = done / elapsed
        left = human_duration((self._total - done) / rate) if rate else "unknown"
        return f"{self._label}: {done:,}/{self._total:,}, {rate:,.1f}/s, ETA {left}"

    def _show(self, line: str) -> None:
        if not self._rewrites:
            print(line, file=self._stream, flush=True)
            return
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)
