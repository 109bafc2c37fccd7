"""Slots of a meta-batch, and the workers that take them."""

from itertools import zip_longest
from typing import Any

_NOTHING = object()


def slots_of(rank: int, world: int, meta_batch: int) -> range:
    """The slots of the meta-batch that worker `rank` of `world` takes."""
    return range(rank, meta_batch, world)


def in_order_of_slots(everyones: list[list[Any]]) -> list[Any]:
    """What takers of every so-many-th slot have, in the order of the slots."""
    rows = zip_longest(*everyones, fillvalue=_NOTHING)
    return [item for row in rows for item in row if item is not _NOTHING]
