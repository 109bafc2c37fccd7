"""The size of a Parquet file once it is unpacked, out of its headers, before anything is unpacked.

pyarrow unpacks whatever a page's header claims, and its accessors of a footer end the process where
that contradicts itself. So the headers are parsed here: Thrift's compact protocol, of which no more
is needed than to find the fields by their numbers in parquet.thrift.
"""

from collections.abc import Collection, Iterator
from mmap import mmap
from typing import Any, NamedTuple

_MAGIC = b"PAR1"
# Bytes of a page with its header.
_PAGE_LEAST = 16
# A length of 4 bytes and the magic end the file.
_TAIL = 8

# Encodings that values may have: PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY. The others let a
# value repeat a long one before it.
_ENCODINGS = (0, 2, 3, 8)

# All but DELTA_BYTE_ARRAY, of whose values each may repeat a long one before it.
_OTHERS_ENCODINGS = (*_ENCODINGS, 4, 5, 6, 9)
# A value of a dictionary may stand in every row that is in memory at a time. Writers end a
# dictionary at 1 or 2 MB.
_MOST_DICTIONARY = 16_000_000
# Images are compressed already: what grows more than so many times is a bomb. A small file may be
# empty, however well that is compressed.
_MOST_GROWTH, _SMALL_BYTES = 200, 64_000_000

# Fields of FileMetaData, RowGroup, ColumnChunk, ColumnMetaData, PageHeader and its parts.
_ROWS, _ROW_GROUPS = 3, 4
_COLUMNS, _GROUP_ROWS = 1, 3
_CHUNK = 3
_VALUES, _PACKED_BYTES, _DATA_AT, _DICTIONARY_AT = 5, 7, 9, 11
_PAGE_BYTES, _PAGE_PACKED_BYTES = 2, 3
# Of a page's parts, the number of values is the first field, and their encoding this one.
_DICTIONARY = 7
_ENCODING = {5: 2, _DICTIONARY: 2, 8: 4}

Struct = dict[int, Any]
# A file in memory, or on disk.
Buffer = bytes | mmap


class Unpacked(NamedTuple):
    """Sizes of a Parquet file once it is unpacked.

    Attributes:
        rows: its rows.
        values: the values of all columns.
        bytes: the bytes of all pages.
        dictionary: the bytes of the largest dictionary, any value of which may stand in all rows.
    """

    rows: int
    values: int
    bytes: int
    dictionary: int


def unpacked(data: Buffer, encodings: Collection[int] = _ENCODINGS) -> Unpacked:
    """Return what a Parquet file is unpacked to.

    Args:
        data: the file.
        encodings: those that pages may have, by their numbers in parquet.thrift.

    Raises:
        ValueError, LookupError, TypeError, RecursionError: when the headers are damaged, or name
            another encoding.
    """
    if len(data) < _TAIL or data[-4:] != _MAGIC:
        raise ValueError("it does not end as Parquet")
    length = int.from_bytes(data[-_TAIL:-4], "little")
    footer, _ = _Reader(data, max(0, len(data) - _TAIL - length)).struct()
    rows, values, size, count, dictionary = footer[_ROWS], 0, 0, 0, 0
    groups = footer[_ROW_GROUPS]
    for chunk in (column[_CHUNK] for group in groups for column in group[_COLUMNS]):
        pages = [*_pages(data, chunk, encodings)]
        values += max(chunk[_VALUES], sum(page.values for page in pages))
        size += sum(page.bytes for page in pages)
        count += len(pages)
        dictionary = max(dictionary, *(page.dictionary for page in pages), 0)
        if count * _PAGE_LEAST > len(data):
            raise ValueError("its columns overlap")
    rows = max(rows, sum(group[_GROUP_ROWS] for group in groups))
    return Unpacked(rows, values, size, dictionary)


def refuse_bomb(data: Buffer) -> None:
    """Refuse a Parquet file whose rows, read some at a time, would take far more than it has.

    Raises:
        ValueError, LookupError, TypeError, RecursionError: when it is one, or damaged.
    """
    size = unpacked(data, _OTHERS_ENCODINGS)
    if size.bytes > max(_SMALL_BYTES, _MOST_GROWTH * len(data)):
        raise ValueError(f"{len(data):,} bytes claim to hold {size.bytes:,}")
    if size.dictionary > _MOST_DICTIONARY:
        raise ValueError(f"it has a dictionary of {size.dictionary:,} bytes")


class _Page(NamedTuple):
    """Values and unpacked bytes of a page, and the latter again where it is a dictionary."""

    values: int
    bytes: int
    dictionary: int


def _pages(data: Buffer, chunk: Struct, encodings: Collection[int]) -> Iterator[_Page]:
    """Yield the pages of a column."""
    at = chunk[_DATA_AT]
    if 0 < chunk.get(_DICTIONARY_AT, 0) < at:
        at = chunk[_DICTIONARY_AT]
    end = at + chunk[_PACKED_BYTES]
    if not 0 <= at <= end <= len(data):
        raise ValueError("a column lies outside of the file")
    while at < end:
        header, at = _Reader(data, at).struct()
        at += _natural(header[_PAGE_PACKED_BYTES])
        count = 0
        for part in header.keys() & _ENCODING.keys():
            count = _natural(header[part][1]) if part != _DICTIONARY else 0
            if header[part][_ENCODING[part]] not in encodings:
                raise ValueError("a page has an encoding by which a few bytes may stand for many")
        size = _natural(header[_PAGE_BYTES])
        yield _Page(count, size, size if _DICTIONARY in header else 0)


def _natural(number: int) -> int:
    # Of a larger one other readers see 32 bits.
    if not 0 <= number < 2**31:
        raise ValueError("a page has an impossible size")
    return number


class _Reader:
    """A reader of Thrift's compact protocol at a place in `data`."""

    def __init__(self, data: Buffer, at: int) -> None:
        self._data, self._at = data, at

    def struct(self) -> tuple[Struct, int]:
        """Read a struct; return its fields by number, and the place after it."""
        return self._struct(), self._at

    def _struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._integer()
            if not 0 < number < 2**15:  # of which other readers see 16 bits
                raise ValueError("it has a header with an impossible field")
            kind &= 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (1, 2, 3):  # a boolean of a list takes a byte
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            return self._skip(8)
        if kind == 8:
            return self._skip(self._varint())
        if kind in (9, 10):
            return self._list()
        if kind == 12:
            return self._struct()
        raise ValueError("it has a header of an unknown kind")

    def _list(self) -> list[Any]:
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._varint()
        # Each takes a byte at least, so that a claim beyond the file ends there.
        return [self._value(head & 15) for _ in range(size)]

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._data):
            raise ValueError("it ends early")

    def _varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (2**64 - 1)
            shift += 7
            if shift > 63:
                raise ValueError("it has an endless number")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
