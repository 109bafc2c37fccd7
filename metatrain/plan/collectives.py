"""Bytes that every worker sends in an outer step, beside the fewest that could do.

Collectives of n workers are counted as rings: to gather S bytes that lie in parts, or to scatter
their sum, each worker sends (n - 1) / n S; to sum them everywhere, twice that. The fewest are those
of one summing in parts and one gathering of theta, and for a loop on shards as many as it has
gradients.
"""

from typing import NamedTuple

from metatrain.config import Config
from metatrain.plan.layout import Layout

_FULL = 4  # bytes of a number in float32


class Leg(NamedTuple):
    """What a worker sends for one purpose, in bytes an outer step.

    Attributes:
        purpose: in words.
        sent: as it is done.
        least: as it could be done.
        apart: whether to other groups; else within its own.
    """

    purpose: str
    sent: float
    least: float
    apart: bool


def legs_of(config: Config, layout: Layout, count: int, passes: int) -> list[Leg]:
    """Everything of the size of theta that a worker sends.

    Args:
        config: the configuration.
        layout: how it comes out on workers.
        count: numbers in theta.
        passes: times that one episode calls the generator.
    """
    ring, size = (layout.shards - 1) / layout.shards, _FULL * count
    if layout.sharded:
        weights = 2 * count if config.inner.precision == "bf16" else size
        inside = _sharded(ring, weights, size, passes * layout.episodes)
    else:
        stage = config.cluster.zero_stage
        inside = {0: _whole, 1: _partly, 2: _partly, 3: _gathered}[stage](ring, size)
    between = 2 * (layout.groups - 1) / layout.groups * _FULL * count
    least = between / layout.shards
    legs = [
        *inside,
        Leg("gradient between groups", least if layout.sharded else between, least, True),
    ]
    return [leg for leg in legs if leg.sent]


def _whole(ring: float, size: float) -> list[Leg]:
    return [Leg("gradient, summed", 2 * ring * size, 2 * ring * size, False)]


def _partly(ring: float, size: float) -> list[Leg]:
    # DeepSpeed sums whole buckets everywhere, and every worker keeps its part.
    gradient = Leg("gradient, summed", 2 * ring * size, ring * size, False)
    return [gradient, Leg("theta, gathered", ring * size, ring * size, False)]


def _gathered(ring: float, size: float) -> list[Leg]:
    gradient = Leg("gradient, scattered", ring * size, ring * size, False)
    # Once to hand over the gradient, and once for the next inner loops.
    return [gradient, Leg("theta, gathered", 2 * ring * size, ring * size, False)]


def _sharded(ring: float, weights: float, gradient: float, passes: int) -> list[Leg]:
    # Every pass gathers the weights forward and backward, and scatters their gradient.
    sent = ring * passes * (2 * weights + gradient)
    return [Leg("inner loop on shards", sent, sent, False)]
