"""A share of a count, with its interval."""

import math
from dataclasses import dataclass

# The quantile of the normal distribution that leaves 2.5% above.
_QUANTILE = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """A number of all, and how sure its share is.

    Attributes:
        count: of these.
        of: of all.
    """

    count: float
    of: int

    @property
    def value(self) -> float:
        """The share; not a number of none."""
        return self.count / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of Wilson 1927, which holds with few too."""
        if not self.of:
            return 0.0, 1.0
        squared = _QUANTILE**2
        centre = (self.count + squared / 2) / (self.of + squared)
        spread = self.value * (1 - self.value) / self.of + squared / (4 * self.of**2)
        half = _QUANTILE * math.sqrt(spread) / (1 + squared / self.of)
        return max(0.0, centre - half), min(1.0, centre + half)

    @property
    def beats_chance(self) -> bool:
        """Whether the interval is above one half."""
        return self.interval[0] > 0.5

    def __str__(self) -> str:
        """Return such as "8 of 10 (80%, interval 49% to 94%)"."""
        if not self.of:
            return "none of 0"
        low, high = self.interval
        count = f"{self.count:g}"
        return f"{count} of {self.of} ({self.value:.0%}, interval {low:.0%} to {high:.0%})"
