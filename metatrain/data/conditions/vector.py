"""Numbers as a condition."""

import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from metatrain.data.conditions.kind import ConditionKind
from metatrain.data.conditions.sections import VectorConfig
from metatrain.data.decoding.bad import BadValue


class Vector(ConditionKind[VectorConfig]):
    """Numbers, in a table as JSON: a number, or a list of them. They are packed as float32."""

    Config = VectorConfig

    @override
    @classmethod
    def encode(cls, data: bytes, size: int | None, raw: bool) -> bytes:
        try:
            numbers = np.asarray(json.loads(data))
            vector = numbers.astype("<f4")
        except (ValueError, TypeError, RecursionError) as error:
            raise BadValue("not a number or a list of numbers") from error
        if numbers.dtype.kind not in "iuf" or numbers.ndim > 1 or not numbers.size:
            raise BadValue("not a number or a list of numbers")
        if not np.isfinite(vector).all():
            raise BadValue("not finite")
        return vector.tobytes()

    @override
    @classmethod
    def config_of(cls, value: bytes) -> VectorConfig:
        return VectorConfig(size=len(value) // 4)

    @override
    def decode(self, values: Sequence[bytes]) -> Tensor:
        for value in values:
            if len(value) != 4 * self.config.size:
                raise BadValue(f"{len(value) / 4:g} numbers in place of {self.config.size}")
        numbers = np.frombuffer(bytearray().join(values), "<f4")
        return torch.from_numpy(numbers.astype(np.float32)).view(len(values), self.config.size)

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return (self.config.size,)
