"""A second image as a condition."""

from collections.abc import Sequence

from torch import Tensor
from typing_extensions import override

from metatrain.data.conditions.kind import ConditionKind
from metatrain.data.conditions.sections import ImageConfig
from metatrain.data.images import normalise
from metatrain.data.pictures import decode


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
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.image_size, self.image_size)
