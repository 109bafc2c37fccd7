"""Values that workers exchange: JSON and tensors, since a pickle runs code when it is read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor

# Sequences arrive as lists, mappings with their keys in order, and tensors on the CPU.
Value: TypeAlias = (
    "bool | int | float | str | Tensor | Sequence[Value] | Mapping[str, Value] | None"
)
Item = TypeVar("Item", bound=Value)

# The tensor that holds the JSON, in which each other tensor stands by its name.
_JSON = "json"


def encoded(value: Value) -> Tensor:
    """Encode a value as bytes [n], in the format of safetensors.

    Raises:
        TypeError: when a part of it is neither JSON nor a tensor.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_with_names(value, tensors)).encode()
    tensors[_JSON] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return torch.frombuffer(bytearray(save(tensors)), dtype=torch.uint8)


def decoded(data: Tensor) -> Any:
    """Decode what `encoded` made, to the bit."""
    tensors = load(data.cpu().numpy().tobytes())
    return _with_tensors(json.loads(tensors[_JSON].numpy().tobytes()), tensors)


def _with_names(value: Value, tensors: dict[str, Tensor]) -> Any:
    """Replace each tensor by a name, under which it is added to `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy, since safetensors refuses views of one another.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("the keys of a mapping that workers exchange are texts")
        return {"mapping": {key: _with_names(part, tensors) for key, part in value.items()}}
    if isinstance(value, list | tuple):
        return [_with_names(part, tensors) for part in value]
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_with_tensors(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _with_tensors(part, tensors) for key, part in value["mapping"].items()}
