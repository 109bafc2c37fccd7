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
    codes = font.getTableData("cmap")
    count = struct.unpack_from(">H", codes, 2)[0]
    # Asking fontTools for its tables would read those that share a place.
    for place in {struct.unpack_from(">I", codes, 8 + 8 * i)[0] for i in range(count)}:
        starts, ends = _ranges(codes, place)
        if (ends - starts).clip(0).sum() + len(starts) > _MOST_CODES:
            raise BadImage("huge", f"more than {_MOST_CODES:,} characters")


def _ranges(codes: bytes, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last characters of a table's ranges; none of a kind that lists each."""
    kind = struct.unpack_from(">H", codes, place)[0]
    if kind == 4:
        count = struct.unpack_from(">H", codes, place + 6)[0] // 2
        ends = np.frombuffer(codes, ">u2", count, place + 14)
        starts = np.frombuffer(codes, ">u2", count, place + 16 + 2 * count)
    elif kind in (12, 13):
        count = struct.unpack_from(">I", codes, place + 12)[0]
        groups = np.frombuffer(codes, ">u4", 3 * count, place + 16).reshape(-1, 3)
        starts, ends = groups[:, 0], groups[:, 1]
    else:
        starts = ends = np.zeros(0)
    return starts.astype(np.int64), ends.astype(np.int64)
