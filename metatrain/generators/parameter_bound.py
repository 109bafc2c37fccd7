"""A bound of what is built by the word of a file, before its tensors are compared."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Refuse to register more than `limit` parameters of modules; other threads may do so.

    Raises:
        OverflowError: when the block inside makes more.
    """
    thread, count = threading.get_ident(), 0

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += parameter is not None and threading.get_ident() == thread
        if count > limit:
            raise OverflowError(f"it has far more parameters than the file, or than {limit:,}")

    hook = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        hook.remove()
