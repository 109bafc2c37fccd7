"""DeepSpeed without what it would bring along and nothing here uses: 2 s of every worker's start.

In CPU seconds, with the first optimiser: 4.3 where MLflow is installed, and 2.3 by way of here.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Inside, importing `name` fails, unless it has been imported before."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Inside, what DeepSpeed would have compiled stays as it is."""
    from deepspeed.runtime import compiler

    compiling = compiler.compile
    compiler.compile = lambda: compiler.dummy_decorator
    try:
        yield
    finally:
        compiler.compile = compiling


# Its autotuner takes MLflow where that is installed.
with _absent("mlflow"):
    import deepspeed
# Every engine asks whether its optimiser is Muon, whose kernels take Inductor to be loaded.
with _nothing_compiled():
    import deepspeed.runtime.zero.muon.muon_optimizer

__all__ = ["deepspeed"]
