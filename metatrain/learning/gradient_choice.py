"""Choosing how to compute outer gradients: by memory predicted and time measured."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.data.batch import Batch
from metatrain.learning.inner.gradient import Unrolled
from metatrain.learning.inner.loop import InnerLoop

_GIB = 2**30


class Way(NamedTuple):
    """A way to compute outer gradients: `meta.gradient` and `meta.tasks_at_once`."""

    gradient: str
    tasks_at_once: int

    @property
    def unrolled(self) -> bool:
        """Whether the graphs of all inner steps are kept."""
        return self.gradient == "unrolled"

    def __str__(self) -> str:
        return (
            self.gradient if self.tasks_at_once == 1 else f"{self.gradient} x{self.tasks_at_once}"
        )


class Choice(NamedTuple):
    """The way to take, and a sentence that says why."""

    way: Way
    reason: str


def choose(
    ways: Sequence[Way], compute: Callable[[Way], Any], needs: Callable[[Way], int], free: int
) -> Choice:
    """The fastest of the ways that fit into memory; the first where none does.

    Args:
        ways: in the order of what they need, least first.
        compute: does what is to be timed.
        needs: bytes that a way is predicted to take.
        free: bytes that there are.
    """
    if len(ways) == 1:
        return Choice(ways[0], "there is no other way")
    sizes = {way: needs(way) for way in ways}
    fitting = [way for way in ways if sizes[way] <= free] or [ways[0]]
    seconds = {way: _seconds(lambda way=way: compute(way)) for way in fitting}
    said = [
        f"{way} took {seconds[way]:.3f} s"
        if way in seconds
        else f"{way} needs {sizes[way] / _GIB:.2f} GiB of {free / _GIB:.2f}"
        for way in ways
    ]
    return Choice(min(fitting, key=lambda way: seconds[way]), ", ".join(said))


def graph_bytes(inner: InnerLoop, theta: Parameters, support: Callable[[int], Batch]) -> int:
    """Bytes that autograd keeps of one inner step when it is to be differentiated."""
    leaves = {name: p.detach().requires_grad_() for name, p in theta.items()}
    own = {tensor.untyped_storage().data_ptr() for tensor in leaves.values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step = next(inner.trace(leaves, support, inner.config.lr, Unrolled(inner.field)))
    # Alive until here, or storages would be freed and counted under one address.
    del step
    return sum(kept.values())


def _seconds(compute: Callable[[], Any], repeats: int = 3) -> float:
    """The best of a few, after one to warm up."""
    compute()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        compute()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best
