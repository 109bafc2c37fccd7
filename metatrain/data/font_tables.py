"""Tables of fonts of strangers, before fontTools reads them: parts that overlap count each time."""

import struct

import numpy as np
from fontTools.ttLib import TTFont

from metatrain.data.images import BadImage

# Characters of Unicode: the ranges of a table are apart, so they have no more together.
_MOST_CODES = 0x110000
_MOST_NAMES = 10_000_000
# Words of a name's record, and which of them is its length.
_RECORD, _LENGTH = 6, 4


def check_tables(font: TTFont) -> None:
    """Refuse names and ranges of characters that lie on one another many times.

    Raises:
        BadImage: when they do.
    """
    names = font.getTableData("name")
    count = struct.unpack_from(">H", names, 2)[0]
    records = np.frombuffer(names, ">u2", count * _RECORD, 6).reshape(count, _RECORD)
    if records[:, _LENGTH].sum(dtype=np.int64) > _MOST_NAMES:
        raise BadImage("huge", f"names of more than {_MOST_NAMES:,} bytes")
    for table in font["cmap"].tables:
        starts, ends = _ranges(table.format, table.data)
        if (ends - starts).clip(0).sum() + len(starts) > _MOST_CODES:
            raise BadImage("huge", f"more than {_MOST_CODES:,} characters")


def _ranges(kind: int, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last characters of a table's ranges; none of a kind that lists each."""
    if kind == 4:
        count = struct.unpack_from(">H", data)[0] // 2
        ends = np.frombuffer(data, ">u2", count, 8)
        starts = np.frombuffer(data, ">u2", count, 10 + 2 * count)
    elif kind in (12, 13):
        groups = np.frombuffer(data[: len(data) // 12 * 12], ">u4").reshape(-1, 3)
        starts, ends = groups[:, 0], groups[:, 1]
    else:
        starts = ends = np.zeros(0)
    return starts.astype(np.int64), ends.astype(np.int64)
