"""Counts of what reading costs."""

import threading


class Traffic:
    """Bytes, requests, cache hits and retries so far; threads may share it."""

    def __init__(self) -> None:
        self._counts = {"bytes": 0, "requests": 0, "cache_hits": 0, "retries": 0}
        self._taken = dict(self._counts)
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        """Add to the counts."""
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count

    def total(self) -> dict[str, int]:
        """Return the counts so far."""
        with self._lock:
            return dict(self._counts)

    def take(self) -> dict[str, float]:
        """Return the counts since the last call."""
        with self._lock:
            new = {name: float(n - self._taken[name]) for name, n in self._counts.items()}
            self._taken = dict(self._counts)
            return new
