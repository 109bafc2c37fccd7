"""Tensors and their metadata in safetensors files, read with a sentence for every fault."""

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Buffer

# Names of types in safetensors' header.
TYPES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL"},
}
# Far more than any model has; to read a million takes half a minute.
MOST_TENSORS = 20_000
# So many have shorter headers, with all else that a model's has.
_LARGEST_HEADER = 16_000_000
# The header is padded with spaces so that the numbers after it lie where any type may.
_ALIGNMENT = 8


def header_length(beginning: Buffer) -> int:
    """Return the length of a safetensors file's header, which its first 8 bytes tell.

    Raises:
        ValueError: when no header that is read has this length.
    """
    length = int.from_bytes(bytes(beginning), "little")
    if length > _LARGEST_HEADER:
        raise ValueError("its header has no length that a header has")
    return length


def parse_header(text: Buffer) -> dict[str, Any]:
    """Parse a safetensors file's header, with a tensor's entry by each name and `__metadata__`.

    Raises:
        ValueError: when it is no JSON object, or of more than `MOST_TENSORS`.
    """
    header = json.loads(bytes(text))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    if len(header) > MOST_TENSORS + 1:
        raise ValueError(f"it has {len(header):,} tensors; at most {MOST_TENSORS:,} are read")
    return header


def read_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file, which `safetensors.torch.load` drops.

    Call it before that, which takes long for far too many tensors.

    Raises:
        ValueError: as `header_length` and `parse_header`.
    """
    return parse_header(data[8 : 8 + header_length(data[:8])]).get("__metadata__", {})


def header_of(
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """Return the beginning of a safetensors file, after which come the tensors' bytes.

    So a file can be written tensor by tensor, where `safetensors.torch.save` wants all at once.

    Args:
        tensors: type and shape of each by name, in the order that they follow in.
        metadata: strings by name.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + dtype.itemsize * prod(shape)
        entries[name] = {"dtype": TYPES[dtype], "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def file_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file, of which the contents alone decide every byte.

    `safetensors.torch.save` writes metadata in another order each time, and files that others name
    by their hash would change whenever they are written again.
    """
    # As safetensors orders them, so that each lies where its type may.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    layout = {name: (tensors[name].dtype, tuple(tensors[name].shape)) for name in names}
    header = header_of(layout, dict(sorted(metadata.items())))
    return b"".join([header, *(raw_bytes(tensors[name]) for name in names)])


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's bytes as they stand in a safetensors file, without a copy where it can."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
