"""Safetensors files read tensor by tensor, of which memory never holds the whole."""

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.text import printable, reason_of
from metatrain.storage.files import reaching
from metatrain.storage.ranges import read_range
from metatrain.storage.retry import GarbledError, retrying
from metatrain.storage.tensors import TYPES, header_length, parse_header

# torch's own limits, below which the product of all sizes takes no time.
_MOST_DIMENSIONS, _LARGEST_SIZE = 64, 2**63


class _Place(NamedTuple):
    """Type and shape of a tensor, and the bytes that hold it, counted from the file's beginning."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


class TensorFile:
    """The tensors of a safetensors file at any URL.

    Args:
        url: the file.

    Attributes:
        url: the file.
        metadata: its strings by name.
        shapes: the shape of each tensor by name.
        bytes: the file's size.

    Raises:
        MissingError: when there is no such file.
        UserError: when it is no safetensors file, or out of reach.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        beginning = self._read(0, 8)
        try:
            length = header_length(beginning)
        except ValueError as error:
            raise self._damaged(reason_of(error)) from error
        text = self._read(8, 8 + length)
        try:
            header = parse_header(text)
            self.metadata = {str(k): str(v) for k, v in header.pop("__metadata__", {}).items()}
            self._places = {name: _place(entry, 8 + length) for name, entry in header.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._damaged(reason_of(error)) from error
        self.bytes = max((p.end for p in self._places.values()), default=8 + length)
        self.shapes: Mapping[str, tuple[int, ...]] = {n: p.shape for n, p in self._places.items()}

    def read(self, name: str, *, as_stored: bool = False) -> Tensor:
        """Read a tensor of floating-point numbers as float32, by one request.

        Args:
            name: of the tensor.
            as_stored: whether to keep its type, which then may be any.

        Raises:
            UserError: when it cannot be read, is of another type, or has a value that is not finite
                in float32.
        """
        place = self._places[name]
        if not (place.dtype.is_floating_point or as_stored):
            raise self._damaged(f"{printable(name)} has the type {TYPES[place.dtype]}")
        data = bytearray(self._read(place.start, place.end))
        empty = torch.empty(0, dtype=place.dtype)
        tensor = torch.frombuffer(data, dtype=place.dtype) if data else empty
        numbers = tensor.float()
        if not numbers.isfinite().all():
            raise self._damaged(f"{printable(name)} is not finite")
        return (tensor if as_stored else numbers).view(place.shape)

    def _read(self, start: int, end: int) -> memoryview:
        try:
            with reaching(self.url):
                data = retrying(lambda: read_range(self.url, start, end))
        except GarbledError as error:
            raise self._damaged("it ends too early") from error
        if len(data) != end - start:
            raise self._damaged("it ends too early")
        return data

    def _damaged(self, reason: str) -> UserError:
        return UserError(f"{self.url} is no safetensors file, or damaged: {reason}.")


def _place(entry: Mapping[str, object], base: int) -> _Place:
    """Parse the header's entry of a tensor.

    Raises:
        ValueError: when its numbers contradict each other.
    """
    dtype = next((dtype for dtype, name in TYPES.items() if name == entry["dtype"]), None)
    shape, offsets = entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets]  # type: ignore[misc]
    possible = all(type(n) is int and 0 <= n < _LARGEST_SIZE for n in numbers)
    if dtype is None or not possible or len(numbers) > _MOST_DIMENSIONS:
        raise ValueError("its header has a type, shape or place that no tensor has")
    *sizes, start, end = numbers
    if end - start != dtype.itemsize * prod(sizes):
        raise ValueError("its header has a tensor of another length than its shape")
    return _Place(dtype, tuple(sizes), base + start, base + end)
