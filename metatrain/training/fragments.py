"""Fragments: slices of named tensors, the form in which a sharded state is stored and moved."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from metatrain.base.parameters import Parameters


class Fragment(NamedTuple):
    """A slice of a named tensor, as whoever has it hands it over.

    Attributes:
        name: the tensor's.
        shape: the whole tensor's.
        start: where in the flattened tensor the slice begins.
        values: [length], the flattened tensor's elements from `start` on.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    values: Tensor

    @property
    def stop(self) -> int:
        """Where in the flattened tensor the slice ends."""
        return self.start + self.values.numel()

    def cut(self, start: int, stop: int) -> "Fragment":
        """The part of it that lies in [start, stop) of the flattened tensor; perhaps nothing."""
        begin, end = max(start, self.start), min(stop, self.stop)
        values = self.values[begin - self.start : max(begin, end) - self.start]
        return self._replace(start=begin, values=values)


def fragments_of(tree: Parameters) -> list[Fragment]:
    """Every tensor as one fragment; views, not copies."""
    return [
        Fragment(name, tuple(tensor.shape), 0, tensor.detach().reshape(-1))
        for name, tensor in tree.items()
    ]


def share_of(tree: Parameters, rank: int, world: int) -> list[Fragment]:
    """Worker `rank`'s even share of a tree that all `world` workers have whole; views.

    The shares of all workers cover the tree, each element once.
    """
    total = sum(tensor.numel() for tensor in tree.values())
    begin, end = (total * r // world for r in (rank, rank + 1))
    share, at = [], 0
    for fragment in fragments_of(dict(sorted(tree.items()))):
        part = fragment.cut(begin - at, end - at)
        # Tensors without elements are in no share by themselves.
        if part.values.numel() or (rank == 0 and not fragment.values.numel()):
            share.append(part)
        at += fragment.stop
    return share


def batches_of(fragments: Iterable[Fragment], size: int) -> Iterator[list[Fragment]]:
    """The same fragments in batches of at most `size` bytes, cut where a batch is full."""
    batch, room = [], size
    for fragment in fragments:
        at, width = fragment.start, fragment.values.element_size()
        while (fitting := room // width) < fragment.stop - at:
            if fitting:
                batch.append(fragment.cut(at, at + fitting))
            yield batch
            at, batch, room = at + fitting, [], size
        batch.append(fragment.cut(at, fragment.stop))
        room -= (fragment.stop - at) * width
    if batch:
        yield batch


def joined(parts: Iterable[Fragment], start: int, stop: int) -> Tensor:
    """The elements [start, stop) of a flattened tensor, from fragments that cover just those.

    Raises:
        ValueError: when elements are missing, or come twice.
    """
    ordered = sorted(parts, key=lambda part: (part.start, part.stop))
    at = start
    for part in ordered:
        if part.start != at:
            raise ValueError(f"elements of {part.name} from {at:,} on are missing or come twice")
        at = part.stop
    if at != stop:
        raise ValueError(f"elements from {at:,} to {stop:,} are missing or too many")
    return torch.cat([part.values for part in ordered])
