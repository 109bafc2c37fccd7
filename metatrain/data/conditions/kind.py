"""The interface of a kind of condition: from packed values to a condition of each example."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import pyarrow as pa

from metatrain.base.section import Section

if TYPE_CHECKING:
    from metatrain.data.examples import Condition

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
        most_bytes: of a file that is not read if it is larger; None for any.
        arrow: the type of the packed column, a string or bytes.
        optional: whether an example may lack a value, which is then packed as nothing.
    """

    Config: ClassVar[type[Section]]
    is_file: ClassVar[bool] = False
    most_bytes: ClassVar[int | None] = None
    arrow: ClassVar[pa.DataType] = pa.binary()
    optional: ClassVar[bool] = False

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
    def decode(self, values: Sequence[bytes]) -> "Condition":
        """Return the condition of as many examples as there are packed `values`.

        Raises:
            BadValue: when one of them is not of this kind.
        """

    def unread(self, value: bytes) -> str | None:
        """Say what of the packed `value` is not decoded, as a noun phrase; None where all is."""
        return None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of one decoded value, of float32; None where it is a text."""
        return None

    @property
    def decoded_bytes(self) -> int:
        """Memory of one decoded value, beyond that of its packed bytes."""
        return 4 * math.prod(self.shape or (0,))
