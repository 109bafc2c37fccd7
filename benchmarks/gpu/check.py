"""A check: the difference of a result from its reference, and the most that it may be."""

from typing import NamedTuple

from metatrain.base.parameters import Parameters


class Check(NamedTuple):
    """A result compared with its reference.

    Attributes:
        name: what was computed.
        error: relative difference of all parameters together.
        limit: the largest difference that rounding explains.
    """

    name: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the difference is rounding."""
        return self.error <= self.limit


def difference(result: Parameters, reference: Parameters) -> float:
    """Return |result - reference| / |reference| over all parameters together, in float64."""
    pairs = [
        (result[name].cpu().double().flatten(), r.cpu().double().flatten())
        for name, r in reference.items()
    ]
    distance = sum(float((a - b).square().sum()) for a, b in pairs)
    return (distance / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5
