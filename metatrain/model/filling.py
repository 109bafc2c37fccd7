"""Progress of constructing a network, whose random numbers may take minutes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from metatrain.base.progress import Progress

# Seconds after which the numbers of the whole network are counted.
_LONG = 1.0


@contextmanager
def filling(construct: Callable[[], object]) -> Iterator[None]:
    """Show how many of the numbers that `construct` makes are made by the block inside.

    The total is that of a construction on the meta device, which takes a fraction of the time.
    """
    if torch.get_default_device().type == "meta":
        yield
        return
    counter = _Shown(construct)
    try:
        with counter:
            yield
    finally:
        counter.close()


class _Counter(TorchFunctionMode):
    """Counter of the numbers in the results of torch's functions, in this thread alone."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function and count its result."""
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.numbers += out.numel()
            self.report()
        return out

    def report(self) -> None:
        """Tell nobody of the count."""


class _Shown(_Counter):
    """Counter that shows itself once it has worked for long."""

    def __init__(self, construct: Callable[[], object]) -> None:
        super().__init__()
        self._construct, self._begin = construct, time.monotonic()
        self._before, self._progress = 0, None

    def report(self) -> None:
        """Show the count."""
        if self._progress is not None:
            self._progress.update((self.numbers - self._before) / 1e6)
        elif time.monotonic() - self._begin > _LONG:
            self._before = self.numbers
            left = _numbers(self._construct) - self._before
            self._progress = Progress("making the network, million numbers", left // 10**6)

    def close(self) -> None:
        """Remove what is shown."""
        if self._progress is not None:
            self._progress.close()


def _numbers(construct: Callable[[], object]) -> int:
    # Not for whoever records this construction.
    with _disable_current_modes(), torch.device("meta"), _Counter() as counter:
        construct()
    return counter.numbers
