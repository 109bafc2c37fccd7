"""Bytes that every worker sends in an outer step, and the fewest that would do.

Collectives of n workers are counted as rings: to gather or to reduce-scatter S bytes, each worker
sends (n - 1) / n S; to all-reduce them, twice that. The fewest are one reduce-scatter of the
gradient and one gathering of theta; for an inner loop on shards, those of each of its gradients.
"""

from typing import NamedTuple

from metatrain.config import Config
from metatrain.plan.layout import Layout

_FULL = 4  # bytes of a number in float32


class Transfer(NamedTuple):
    """Bytes that a worker sends for one purpose in an outer step.

    Attributes:
        purpose: the purpose, in words.
        sent: bytes that are sent.
        least: bytes that would do.
        between_groups: whether they go to other groups; else they stay within the worker's own.
    """

    purpose: str
    sent: float
    least: float
    between_groups: bool = False


def transfers_of(config: Config, layout: Layout, *, count: int, passes: int) -> list[Transfer]:
    """List what a worker sends, as far as it grows with theta.

    Args:
        config: the configuration.
        layout: its workers and groups.
        count: numbers in theta.
        passes: calls of the generator per episode.
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
    sent = least if layout.sharded else between
    last = Transfer("gradient between groups", sent, least, between_groups=True)
    return [transfer for transfer in (*inside, last) if transfer.sent]


def _whole(ring: float, size: float) -> list[Transfer]:
    return [Transfer("gradient, all-reduced", 2 * ring * size, 2 * ring * size)]


def _partly(ring: float, size: float) -> list[Transfer]:
    # DeepSpeed all-reduces whole buckets, of which every worker keeps its part.
    gradient = Transfer("gradient, all-reduced", 2 * ring * size, ring * size)
    return [gradient, Transfer("theta, gathered", ring * size, ring * size)]


def _gathered(ring: float, size: float) -> list[Transfer]:
    gradient = Transfer("gradient, reduce-scattered", ring * size, ring * size)
    return [gradient, Transfer("theta, gathered", ring * size, ring * size)]


def _sharded(ring: float, weights: float, gradient: float, passes: int) -> list[Transfer]:
    # Every pass gathers the weights forward and backward, and reduce-scatters their gradient.
    sent = ring * passes * (2 * weights + gradient)
    return [Transfer("inner loop on shards", sent, sent)]
