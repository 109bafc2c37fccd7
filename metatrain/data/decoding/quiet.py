"""Silence of Python's warnings while several threads decode."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

_lock = Lock()
_inside = 0
_silence = ExitStack()


@contextmanager
def no_warnings() -> Iterator[None]:
    """Ignore warnings in the block inside, and in all others that run meanwhile.

    `warnings.catch_warnings` alone would restore, in one thread, the filters of another's block.
    """
    global _inside
    with _lock:
        if not _inside:
            _silence.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _silence.close()
