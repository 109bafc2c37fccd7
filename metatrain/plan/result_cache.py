"""Results of operations on meta tensors, computed once for all operations of the same shapes.

A network repeats its blocks, steps and episodes, and to work out the shape of a result takes torch
several times as long as to look it up.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry


class _Shape(NamedTuple):
    """Description of a dense tensor of the meta device."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class _Result(NamedTuple):
    """Description of what an operation returns.

    Attributes:
        shapes: of its new tensors; None where it changed its first argument.
        single: whether it returns one tensor, and no tuple of them.
        flops: its floating-point operations.
    """

    shapes: list[_Shape] | None
    single: bool
    flops: int


class ResultCache:
    """Operations on meta tensors, and their results by function and shapes.

    Operations that return views are run as they are: their results share the bytes of an argument.
    """

    def __init__(self) -> None:
        self._results: dict[Any, _Result] = {}

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, int]:
        """Return the result of an operation, and its floating-point operations."""
        key = None if func.is_view else _key(func, args, kwargs)
        result = None if key is None else self._results.get(key)
        if result is not None:
            return _made(result, args), result.flops
        out = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        flops = count(*args, **kwargs, out_val=out) if count else 0
        if key is not None and key == _key(func, args, kwargs):
            shapes = _shapes(func, out, args)
            if shapes is not None or out is args[0]:
                self._results[key] = _Result(shapes, isinstance(out, Tensor), flops)
        return out, flops


def _key(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what the shape of the result depends on; None where that is not known."""
    key = (func, _described(args), _described(tuple(kwargs.items())))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, tuple | list):
        return tuple(map(_described, value))
    return type(value), value  # 1, 1.0 and True are equal


def _shapes(func: Any, out: Any, args: Sequence[Any]) -> list[_Shape] | None:
    """Describe tensors that an operation made; None where they are not all new, whole and meta."""
    tensors = [out] if isinstance(out, Tensor) else out
    if func._schema.is_mutable or not isinstance(tensors, list | tuple):
        return None
    shapes = []
    for tensor in tensors:
        if not (isinstance(tensor, Tensor) and tensor.is_meta):
            return None
        shape = _Shape(tuple(tensor.shape), tensor.stride(), tensor.dtype)
        storage = tensor.untyped_storage()
        of_argument = any(storage._cdata == a.untyped_storage()._cdata for a in _tensors(args))
        if of_argument or storage.nbytes() != _new(shape).untyped_storage().nbytes():
            return None
        shapes.append(shape)
    return shapes


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    nested = [v for value in values for v in (value if isinstance(value, list) else [value])]
    return [value for value in nested if isinstance(value, Tensor)]


def _made(result: _Result, args: Sequence[Any]) -> Any:
    if result.shapes is None:
        return args[0]
    tensors = [_new(shape) for shape in result.shapes]
    return tensors[0] if result.single else tuple(tensors)


def _new(shape: _Shape) -> Tensor:
    return torch.empty_strided(shape.size, shape.stride, dtype=shape.dtype, device="meta")
