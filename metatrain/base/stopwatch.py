"""A stopwatch that divides the time of a loop among its activities."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent on each of several activities since the last `take`.

    Args:
        names: of the activities; `take` reports each, even if no time was spent on it.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._seconds = dict.fromkeys(names, 0.0)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent in the context to `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - started

    def take(self) -> dict[str, float]:
        """Return the seconds by name, and restart all at 0."""
        seconds, self._seconds = self._seconds, dict.fromkeys(self._names, 0.0)
        return seconds
