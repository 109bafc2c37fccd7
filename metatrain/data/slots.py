"""Slots of a meta-batch, and their distribution over workers."""

from itertools import zip_longest
from typing import Any

_NOTHING = object()


def slots_of(rank: int, world: int, meta_batch: int) -> range:
    """Return the slots of the meta-batch for worker `rank` of `world`: every `world`-th."""
    return range(rank, meta_batch, world)


def in_order_of_slots(by_worker: list[list[Any]]) -> list[Any]:
    """Interleave per-worker lists into slot order (worker r holds slots r, r + W, ...)."""
    rows = zip_longest(*by_worker, fillvalue=_NOTHING)
    return [item for row in rows for item in row if item is not _NOTHING]
