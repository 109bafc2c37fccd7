"""The types that parameters have in a model's file: the fewest bits that are exact for all."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.storage.int8 import dequantize, is_matrix, quantize

# Before the names of a model's parameters in its file, and of the scales of those in 8 bits.
PARAMETERS, SCALES = "parameters", "scales"

_HALF = (torch.float16, torch.bfloat16)
_FLOATS = (torch.float64, torch.float32, *_HALF)


def stored_parameters(parameters: Parameters) -> dict[str, Tensor]:
    """Return the tensors of a file that hold parameters exactly."""
    return _in_8_bits(parameters) or {_stored(n): p for n, p in _halved(parameters).items()}


def read_parameters(tensors: Mapping[str, Tensor]) -> Parameters:
    """Return the parameters in the tensors of a file, in single precision where it has less.

    Raises:
        KeyError: when a parameter in 8 bits has no scales.
        ValueError: when they are not its scales, or a parameter is of another type.
    """
    start = _stored("")
    names = [name.removeprefix(start) for name in tensors if name.startswith(start)]
    return {name: read_parameter(name, tensors) for name in names}


def read_parameter(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return one of the parameters that `read_parameters` does; raises as it."""
    stored = tensors[_stored(name)]
    if stored.dtype == torch.int8:
        return dequantize(stored, tensors[f"{SCALES}/{name}"])
    if stored.dtype not in _FLOATS:
        raise ValueError(f"{_stored(name)} has the type {stored.dtype}")
    return stored.float() if stored.dtype in _HALF else stored


def _in_8_bits(parameters: Parameters) -> dict[str, Tensor]:
    """Return tensors with matrices in 8 bits and vectors in half precision.

    None at all where that would round any of them.
    """
    matrices = {name: p for name, p in parameters.items() if is_matrix(p)}
    vectors = {name: p for name, p in parameters.items() if name not in matrices}
    if not all(_is_exact(p, torch.float16) for p in vectors.values()):
        return {}
    tensors = {_stored(name): p.half().contiguous() for name, p in vectors.items()}
    for name, matrix in matrices.items():
        codes, scales = quantize(matrix)
        if matrix.dtype != torch.float32 or not torch.equal(dequantize(codes, scales), matrix):
            return {}
        tensors |= {_stored(name): codes.contiguous(), f"{SCALES}/{name}": scales}
    return tensors


def _halved(parameters: Parameters) -> Parameters:
    """Return single-precision parameters in half precision, unless that would round any of them."""
    for half in _HALF:
        if all(_is_exact(parameter, half) for parameter in parameters.values()):
            return {name: p.to(half) for name, p in parameters.items()}
    return parameters


def _is_exact(parameter: Tensor, half: torch.dtype) -> bool:
    return parameter.dtype == torch.float32 and torch.equal(parameter.to(half).float(), parameter)


def _stored(name: str) -> str:
    return f"{PARAMETERS}/{name}"
