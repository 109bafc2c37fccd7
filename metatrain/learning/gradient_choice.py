"""Choosing a method to compute outer gradients: by memory predicted and time measured."""

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


class GradientMethod(NamedTuple):
    """A method to compute outer gradients: `meta.gradient` and `meta.tasks_at_once`."""

    gradient: str
    tasks_at_once: int

    @property
    def unrolled(self) -> bool:
        """Tell whether the graphs of all inner steps are kept."""
        return self.gradient == "unrolled"

    def __str__(self) -> str:
        return (
            self.gradient if self.tasks_at_once == 1 else f"{self.gradient} x{self.tasks_at_once}"
        )


class Choice(NamedTuple):
    """The chosen method, and the reason in a sentence."""

    method: GradientMethod
    reason: str


def choose(
    methods: Sequence[GradientMethod],
    compute: Callable[[GradientMethod], Any],
    needs: Callable[[GradientMethod], int],
    free: int,
) -> Choice:
    """Choose the fastest of the methods that fit into memory; the first where none does.

    Args:
        methods: in the order of the memory that they need, least first.
        compute: the computation to time.
        needs: predicts the bytes that a method needs.
        free: bytes available.
    """
    if len(methods) == 1:
        return Choice(methods[0], "there is no other method")
    sizes = {method: needs(method) for method in methods}
    fitting = [method for method in methods if sizes[method] <= free] or [methods[0]]
    seconds = {method: _seconds(lambda method=method: compute(method)) for method in fitting}
    reasons = [
        f"{method} took {seconds[method]:.3f} s"
        if method in seconds
        else f"{method} needs {sizes[method] / _GIB:.2f} GiB of {free / _GIB:.2f}"
        for method in methods
    ]
    return Choice(min(fitting, key=lambda method: seconds[method]), ", ".join(reasons))


def graph_bytes(inner: InnerLoop, theta: Parameters, support: Callable[[int], Batch]) -> int:
    """Count the bytes that autograd keeps of one inner step that is to be differentiated."""
    leaves = {name: p.detach().requires_grad_() for name, p in theta.items()}
    weights = {tensor.untyped_storage().data_ptr() for tensor in leaves.values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step = next(inner.trace(leaves, support, inner.config.lr, Unrolled(inner.field)))
    # Kept alive until here: storages freed earlier would be counted under one address.
    del step
    return sum(kept.values())


def _seconds(compute: Callable[[], Any], repeats: int = 3) -> float:
    """Time `compute` after one call to warm up; return the shortest of `repeats`."""
    compute()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        compute()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best
