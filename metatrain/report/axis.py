"""Axes of charts: places between 0 and 1, and round values to label them with."""

import math
from collections.abc import Iterable


class Axis:
    """A linear or logarithmic map of values to places between 0 and 1.

    Args:
        values: the values that must lie on it, at least one; positive if `log`.
        padding: room at both ends, as a share of the axis.
        log: whether equal ratios, instead of equal differences, are equally far apart.
        highest: the largest value that there can be, at which ticks end.
    """

    def __init__(
        self,
        values: Iterable[float],
        *,
        padding: float = 0.0,
        log: bool = False,
        highest: float = math.inf,
    ) -> None:
        self._scale = math.log10 if log else float
        self._log, self._highest = log, highest
        places = [self._scale(value) for value in values]
        low, high = min(places), max(places)
        if low == high and high + (abs(low) or 1.0) > self._scale(highest):
            low, high = low - (self._scale(highest) - low or 1.0), self._scale(highest)
        span = (high - low) or abs(low) or 1.0
        self._low, self._span = low - padding * span, (1 + 2 * padding) * span

    def place(self, value: float) -> float:
        """Map `value` to its place: 0 at the start of the axis, 1 at its end."""
        return (self._scale(value) - self._low) / self._span

    def ticks(self) -> list[float]:
        """Choose about five round values on the axis."""
        return [tick for tick in self._ticks() if tick <= self._highest * (1 + 1e-9)]

    def _ticks(self) -> list[float]:
        if self._log:
            for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
                ticks = self._log_ticks(digits)
                if len(ticks) >= 4:
                    return ticks
            return _round_values(10**self._low, 10 ** (self._low + self._span))
        return _round_values(self._low, self._low + self._span)

    def _log_ticks(self, digits: tuple[int, ...]) -> list[float]:
        """List the values on the axis that are one of `digits` times a power of ten."""
        magnitudes = range(math.floor(self._low), math.ceil(self._low + self._span) + 1)
        values = [digit * 10.0**magnitude for magnitude in magnitudes for digit in digits]
        return [value for value in values if -1e-9 < self.place(value) < 1 + 1e-9]


def _round_values(low: float, high: float) -> list[float]:
    """List multiples of 1, 2 or 5 times a power of ten from `low` to `high`, three to eight."""
    largest = (high - low) / 3
    magnitude = 10.0 ** math.floor(math.log10(largest))
    step = max(m * magnitude for m in (1, 2, 5) if m * magnitude <= largest)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
