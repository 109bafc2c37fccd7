"""Partitions: the parts of a run's state that each worker keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.training.fragments import Fragment, share_of

# The elements [start, stop) of a flattened tensor.
Slice = tuple[int, int]
# Shapes of whole tensors, by name.
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The slices of theta's tensors that one worker keeps.

    A tree of such slices is a local tree: each is flat, unless it is all of its tensor.

    Attributes:
        shapes: shapes of the whole tensors, by name.
        slices: slices that this worker keeps, by name; some may be empty.
        copy: number of this worker among those that keep the same slices.
        copies: how many workers keep them.
    """

    shapes: Shapes
    slices: Mapping[str, Slice]
    copy: int = 0
    copies: int = 1

    @classmethod
    def whole(cls, shapes: Shapes, *, copy: int = 0, copies: int = 1) -> "Partition":
        """Return the partition of a worker that keeps all of every tensor."""
        slices = {name: (0, prod(shape)) for name, shape in shapes.items()}
        return cls(shapes=shapes, slices=slices, copy=copy, copies=copies)

    def local(self, tree: Parameters) -> Parameters:
        """Return this worker's slices of a tree of whole tensors; views."""
        return {name: self.cut(name, tensor) for name, tensor in tree.items()}

    def cut(self, name: str, whole: Tensor) -> Tensor:
        """Return this worker's slice of a whole tensor shaped like theta's `name`; a view."""
        start, stop = self.slices[name]
        return self.shaped(name, whole.reshape(-1)[start:stop])

    def shaped(self, name: str, values: Tensor) -> Tensor:
        """Return the elements of this worker's slice in the shape that a local tree has."""
        shape = self.shapes[name]
        return values.reshape(shape) if values.numel() == prod(shape) else values

    def fragment(self, name: str, parameter: str, values: Tensor) -> Fragment:
        """Return a tensor of a local tree as a fragment; a view.

        Args:
            name: name of the fragment.
            parameter: name of the tensor of theta that it is shaped like.
            values: this worker's slice of it.
        """
        start, _ = self.slices[parameter]
        return Fragment(name, self.shapes[parameter], start, values.detach().reshape(-1))

    def share(self, fragments: Sequence[Fragment]) -> list[Fragment]:
        """Return this worker's even share of fragments that all copies have."""
        return share_of(fragments, self.copy, self.copies)


def shapes_of(tree: Parameters) -> Shapes:
    """Return the shapes of a tree of whole tensors."""
    return {name: tuple(tensor.shape) for name, tensor in tree.items()}


class StateParts(NamedTuple):
    """The parts of a run's state that one worker keeps.

    Attributes:
        theta: its slices of theta, of the averages and of the optimiser's moments.
        memory: its slices of the trees that a learner remembers of tasks.
    """

    theta: Partition
    memory: Partition
