"""Progress of long work, for whoever displays it: a log by default, a terminal for commands."""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TextIO, TypeVar

from metatrain.base.text import printable_lines

Item = TypeVar("Item")

_log = logging.getLogger("metatrain")
# Takes the share that is done of the thing in progress, in the thread that works on it.
_take_share: ContextVar[Callable[[float], None] | None] = ContextVar("take_share", default=None)


class Display(Protocol):
    """A place where progress is shown.

    Attributes:
        interval: the shortest time between two lines, in seconds.
    """

    interval: float

    def show(self, line: str) -> None:
        """Show the state of the work."""

    def say(self, message: str) -> None:
        """Show a message that stays."""

    def clear(self) -> None:
        """Remove the state of the work."""


class LogDisplay:
    """Progress in the logger `metatrain`: states at level INFO, messages at WARNING."""

    interval = 5.0

    def show(self, line: str) -> None:
        """Log the state of the work."""
        _log.info("%s", printable_lines(line))

    def say(self, message: str) -> None:
        """Log a message."""
        _log.warning("%s", printable_lines(message))

    def clear(self) -> None:
        """Leave the log as it is."""


class StreamDisplay:
    """Progress on a stream: one line that a terminal overwrites, a line every 5 s elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._overwrites = stream, stream.isatty()
        self.interval = 1.0 if self._overwrites else 5.0
        self._width = 0

    def show(self, line: str) -> None:
        """Show the state of the work, in the place of the one before on a terminal."""
        if not self._overwrites:
            print(log_line(line), file=self._stream, flush=True)
            return
        line = printable_lines(line)
        # A line that wraps could not be overwritten.
        line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)

    def say(self, message: str) -> None:
        """Print a message on a line of its own."""
        self.clear()
        print(printable_lines(message), file=self._stream, flush=True)

    def clear(self) -> None:
        """Clear the line."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0


_display: Display = LogDisplay()


@contextmanager
def displayed(display: Display) -> Iterator[None]:
    """Show the progress of all work in the context on `display`."""
    global _display
    before, _display = _display, display
    try:
        yield
    finally:
        _display = before


def say(message: str) -> None:
    """Show a message that stays."""
    _display.say(message)


def log_line(text: str) -> str:
    """Return a line of a log: the local time, and the text without control characters."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable_lines(text)}"


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
    """Counter of the things done, which shows their number, the rate and the time left.

    Work that takes less time than the display's interval shows nothing.

    Args:
        label: the name of the work.
        total: the number of things to do; 0 where nobody knows it.
    """

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._display = label, total, _display
        self._started = self._shown = time.monotonic()
        self._visible = False

    def update(self, done: float) -> None:
        """Report that `done` things are done, if the last report is long enough ago.

        The clock starts anew while nothing is done, so that the rate is that of the work alone.
        """
        now = time.monotonic()
        if not done:
            self._started = self._shown = now
        if now - self._shown >= self._display.interval:
            self._shown, self._visible = now, True
            self._display.show(self._line(done, now - self._started))

    @contextmanager
    def part(self, begin: int, size: int) -> Iterator[None]:
        """Do the `size` things after the first `begin`; `report_share` inside reports on them."""
        token = _take_share.set(lambda share: self.update(begin + share * size))
        try:
            yield
        finally:
            _take_share.reset(token)

    def say(self, message: str) -> None:
        """Show a message that stays."""
        self._display.say(message)

    def close(self) -> None:
        """Remove what this counter shows; a line of others stays."""
        if self._visible:
            self._display.clear()

    def _line(self, done: float, elapsed: float) -> str:
        rate, total = done / elapsed, self._total
        left = human_duration((total - done) / rate) if rate and total else "unknown"
        of = f"/{total:,}" if total else ""
        return f"{self._label}: {int(done):,}{of}, {rate:,.1f}/s, ETA {left}"


def report_share(share: float) -> None:
    """Report that `share` of the part in progress is done, for a `Progress` that has parts."""
    if take := _take_share.get():
        take(share)


def tracked(label: str, items: Iterable[Item], total: int) -> Iterator[Item]:
    """Yield `items`, of which there are `total`, and show how many are done."""
    progress = Progress(label, total)
    try:
        for done, item in enumerate(items, start=1):
            yield item
            progress.update(done)
    finally:
        progress.close()
