"""Models in half precision: their files have half the size, and adapt as before."""

from dataclasses import replace
from typing import Literal

import torch

from metatrain.base.errors import UserError
from metatrain.model.model import Model

Precision = Literal["fp16", "bf16"]

_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def rounded(model: Model, precision: Precision) -> Model:
    """Round the parameters of a model to half precision, in which its file then has them.

    They are read as single precision again, exactly, so the model computes, adapts and trains in
    that. It has to be calibrated and evaluated as it is after rounding.

    Raises:
        UserError: when half precision cannot hold a parameter.
    """
    parameters = {n: p.to(_TYPES[precision]).to(p.dtype) for n, p in model.parameters.items()}
    if large := next((n for n, value in parameters.items() if not value.isfinite().all()), None):
        raise UserError(
            f"half precision cannot hold {large}, whose values are too large for {precision}."
        )
    return replace(model, parameters=parameters, calibration=None)


def compressed(model: Model, size: int, precision: Precision) -> bytes:
    """Return a model's file in half precision.

    Args:
        model: the model.
        size: of the file that it came from, in bytes.
        precision: fp16 has 11 significant bits and values to 65,504; bf16 has 8 and any values.

    Raises:
        UserError: when half precision cannot hold a parameter, or the file would be no smaller.
    """
    data = rounded(model, precision).to_bytes()
    if len(data) >= size:
        raise UserError(
            f"the model would have {len(data):,} bytes in {precision}, and its file has {size:,} "
            f"already; keep that."
        )
    return data
