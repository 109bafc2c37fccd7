"""Weights as integers of 8 bits, with a scale for each row: an output channel, in most layers."""

import torch
from torch import Tensor

_LARGEST = 127
# Less is taken for 0, so that no quotient leaves float32.
_LEAST_SCALE = 2.0**-100
# The last bits of a scale are 0, so that it times an integer is exact in float32.
_SCALE_BITS = ~0xFF


def is_matrix(weight: Tensor) -> bool:
    """Return whether a weight has rows, as matrices and kernels do."""
    return weight.is_floating_point() and weight.ndim > 1 and weight.numel() > 0


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight to integers and scales, which are exactly those of what they stand for.

    No value moves by more than half a scale: 1/254 of the largest of its row, or 2^-101 in a row
    whose largest is below 127 * 2^-100, about 1e-28.

    Args:
        weight: [R, ...], finite; see `is_matrix`.

    Returns:
        Integers of the weight's shape, in [-127, 127], and scales [R].
    """
    weight = weight.detach().float()
    largest = weight.flatten(1).abs().amax(dim=1)
    scales = ((largest / _LARGEST).view(torch.int32) & _SCALE_BITS).view(torch.float32)
    scales = scales.clamp(min=_LEAST_SCALE)
    return (weight / _by_row(scales, weight)).round().to(torch.int8), scales


def dequantize(codes: Tensor, scales: Tensor) -> Tensor:
    """Return the float32 weight that integers [R, ...] and scales [R] stand for.

    Raises:
        ValueError: when there is not a float32 scale for each row, or a value is not finite.
    """
    if scales.dtype != torch.float32:
        raise ValueError(f"scales have the type {scales.dtype}, and not float32")
    if codes.ndim < 2 or scales.shape != codes.shape[:1]:
        raise ValueError(
            f"scales of the shape {tuple(scales.shape)} are not one for each row of "
            f"{tuple(codes.shape)}"
        )
    weight = codes.float() * _by_row(scales, codes)
    if not weight.isfinite().all():
        raise ValueError("a scale is too large")
    return weight


def _by_row(scales: Tensor, weight: Tensor) -> Tensor:
    return scales.view(-1, *(1,) * (weight.ndim - 1))
