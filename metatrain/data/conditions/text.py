"""A text as a condition."""

from collections.abc import Sequence

import pyarrow as pa
from typing_extensions import override

from metatrain.data.conditions.kind import ConditionKind
from metatrain.data.conditions.sections import TextConfig
from metatrain.data.decoding.bad import BadValue

# A caption is a sentence; what is longer is a file in the wrong place.
MOST_BYTES = 65_536


class Text(ConditionKind[TextConfig]):
    """A string, packed as UTF-8; an empty one is none."""

    Config = TextConfig
    arrow = pa.string()
    optional = True

    @override
    @classmethod
    def encode(cls, data: bytes, size: int | None, raw: bool) -> bytes:
        if len(data) > MOST_BYTES:
            raise BadValue(f"a text of more than {MOST_BYTES:,} bytes", f"{len(data):,}")
        return data

    @override
    def decode(self, values: Sequence[bytes]) -> tuple[str, ...]:
        try:
            return tuple(value.decode() for value in values)
        except UnicodeDecodeError as error:
            raise BadValue("not UTF-8") from error
