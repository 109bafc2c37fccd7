"""Kinds of conditions: how the values of a packed column become a condition of each example."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from metatrain.base.registry import Registry
from metatrain.base.section import Section
from metatrain.data.examples import Condition
from metatrain.data.images import BadValue, normalise
from metatrain.data.pictures import decode

C = TypeVar("C", bound=Section)


class ConditionKind(ABC, Generic[C]):
    """A kind of condition. A packed column of it holds the bytes of one value for each image.

    Args:
        config: the condition's section of the configuration, under `data.conditions`.
        image_size: height and width of the targets in pixels.
        channels: channels of the targets, 1, 3 or 4.

    Attributes:
        Config: the class of the section. It is stored with a packed column, and says what a value
            is; data with another one is refused.
        is_file: whether a table gives the path of a file in place of the value.
        arrow: the type of the packed column, a string or bytes.
    """

    Config: ClassVar[type[Section]]
    is_file: ClassVar[bool] = False
    arrow: ClassVar[pa.DataType] = pa.binary()

    def __init__(self, config: C, image_size: int, channels: int) -> None:
        self.config, self.image_size, self.channels = config, image_size, channels

    @classmethod
    @abstractmethod
    def encode(cls, data: bytes, size: int | None, raw: bool) -> bytes:
        """Return the packed value of `data`, a table's text or the content of its file.

        Args:
            data: what the table gives.
            size: as of `metatrain.data.images.normalise`, for kinds that hold images.
            raw: likewise.

        Raises:
            BadValue: when it is no value of this kind.
        """

    @classmethod
    def config_of(cls, value: bytes) -> Section:
        """Return the section under which the packed `value` can be decoded."""
        return cls.Config()

    @abstractmethod
    def decode(self, values: Sequence[bytes]) -> Condition:
        """Return the condition of as many examples as there are packed `values`.

        Raises:
            BadValue: when one of them is not of this kind.
        """

    @property
    def decoded_bytes(self) -> int:
        """Memory of one decoded value, beyond that of its packed bytes."""
        return 0


class VectorConfig(Section):
    """Numbers: a tensor [B, size]."""

    name: Literal["vector"] = "vector"
    size: int = Field(default=1, ge=1, le=2**20, description="Numbers of each example.")


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
    def decoded_bytes(self) -> int:
        return 4 * self.config.size


class TextConfig(Section):
    """A string for each example."""

    name: Literal["text"] = "text"


class Text(ConditionKind[TextConfig]):
    """A string, packed as UTF-8."""

    Config = TextConfig
    arrow = pa.string()

    @override
    @classmethod
    def encode(cls, data: bytes, size: int | None, raw: bool) -> bytes:
        return data

    @override
    def decode(self, values: Sequence[bytes]) -> tuple[str, ...]:
        try:
            return tuple(value.decode() for value in values)
        except UnicodeDecodeError as error:
            raise BadValue("not UTF-8") from error


class ImageConfig(Section):
    """A second image of the targets' size and channels: a tensor [B, C, H, W] in [-1, 1]."""

    name: Literal["image"] = "image"


class ImageKind(ConditionKind[ImageConfig]):
    """An image, in a table as the path of a file; packed, decoded and resized like the targets."""

    Config = ImageConfig
    is_file = True

    @override
    @classmethod
    def encode(cls, data: bytes, size: int | None, raw: bool) -> bytes:
        return normalise(data, size, raw).data

    @override
    def decode(self, values: Sequence[bytes]) -> Tensor:
        return decode(list(values), self.image_size, self.channels)

    @property
    @override
    def decoded_bytes(self) -> int:
        return 4 * self.channels * self.image_size**2


CONDITIONS: Registry[type[ConditionKind[Any]]] = Registry(
    "metatrain.conditions", {"text": Text, "vector": Vector, "image": ImageKind}
)
