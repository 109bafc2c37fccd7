"""Models in fewer bits: their files are smaller, and they adapt as before."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.parameters import first_not_finite
from metatrain.model.model import Model
from metatrain.storage.int8 import dequantize, is_matrix, quantize

Precision = Literal["fp16", "bf16", "int8"]


def rounded(model: Model, precision: Precision) -> Model:
    """Round the parameters of a model to fewer bits, in which its file then has them.

    They are read as single precision again, exactly, so the model computes, adapts and trains in
    that. It has to be calibrated and evaluated as it is after rounding.

    Args:
        model: the model.
        precision: fp16 has 11 significant bits and values to 65,504; bf16 has 8 and any values;
            int8 has matrices and kernels as integers with a scale for each row, the rest in fp16.

    Raises:
        UserError: when half precision cannot hold a parameter.
    """
    rounding = _ROUNDINGS[precision]
    parameters = {name: rounding(p).to(p.dtype) for name, p in model.parameters.items()}
    if large := first_not_finite(parameters):
        raise UserError(
            f"half precision cannot hold {large}, whose values are too large for {precision}."
        )
    return replace(model, parameters=parameters, calibration=None)


def _eight_bits(parameter: Tensor) -> Tensor:
    return dequantize(*quantize(parameter)) if is_matrix(parameter) else parameter.half()


_ROUNDINGS: Mapping[Precision, Callable[[Tensor], Tensor]] = {
    "fp16": Tensor.half,
    "bf16": Tensor.bfloat16,
    "int8": _eight_bits,
}
