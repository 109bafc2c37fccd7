"""Where the time of a loop goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent on each of several things since it was asked last.

    Args:
        names: of the things; each is told of, spent on or not.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._seconds = dict.fromkeys(names, 0.0)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count what happens in here for `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - started

    def take(self) -> dict[str, float]:
        """Seconds by name, which then begin at 0."""
        taken, self._seconds = self._seconds, dict.fromkeys(self._names, 0.0)
        return taken
