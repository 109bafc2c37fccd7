"""Tensors and their metadata in safetensors files, read with a sentence for every fault."""

import json
from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

# Names of types in safetensors' header.
TYPES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint8: "U8", torch.bool: "BOOL"},
}
# The header is padded with spaces so that the numbers after it lie where any type may.
_ALIGNMENT = 8


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file, which `safetensors.torch.load` drops.

    Raises:
        ValueError: when its header is not JSON.
    """
    # Eight bytes of length, then the header.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header.get("__metadata__", {})


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


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's bytes as they stand in a safetensors file, without a copy where it can."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
