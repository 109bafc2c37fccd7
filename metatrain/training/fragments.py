"""Fragments: slices of named tensors, the form in which a sharded state is stored and moved."""

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor


class Fragment(NamedTuple):
    """A slice of a named tensor, as the worker that has it hands it over.

    Attributes:
        name: name of the tensor.
        shape: shape of the whole tensor.
        start: index in the flattened tensor at which the slice begins.
        values: [length], the flattened tensor's elements from `start` on.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    values: Tensor

    @property
    def stop(self) -> int:
        """Index in the flattened tensor at which the slice ends."""
        return self.start + self.values.numel()

    def cut(self, start: int, stop: int) -> "Fragment":
        """Return the part of it in [start, stop) of the flattened tensor, which may be empty."""
        begin, end = max(start, self.start), min(stop, self.stop)
        values = self.values[begin - self.start : max(begin, end) - self.start]
        return self._replace(start=begin, values=values)


def fragment_of(name: str, tensor: Tensor) -> Fragment:
    """Return a whole tensor as one fragment; a view."""
    return Fragment(name, tuple(tensor.shape), 0, tensor.detach().reshape(-1))


def share_of(fragments: Sequence[Fragment], part: int, parts: int) -> list[Fragment]:
    """Return the even share `part` of what `parts` workers all have; views.

    The shares of all of them cover the fragments, each element once.
    """
    total = sum(fragment.values.numel() for fragment in fragments)
    begin, end = (total * number // parts for number in (part, part + 1))
    share, at = [], 0
    for fragment in fragments:
        piece = fragment.cut(fragment.start + begin - at, fragment.start + end - at)
        # No share has a tensor without elements of itself.
        if piece.values.numel() or (part == 0 and not prod(fragment.shape)):
            share.append(piece)
        at += fragment.values.numel()
    return share


def batches_of(fragments: Iterable[Fragment], size: int) -> Iterator[list[Fragment]]:
    """Yield the fragments in batches of at most `size` bytes, cut where a batch is full."""
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
    """Return the elements [start, stop) of a flattened tensor from fragments that cover just those.

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
