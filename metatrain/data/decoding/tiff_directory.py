"""The first directory of a TIFF file, read leniently; EXIF is such a file too."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from typing_extensions import Buffer, override

_HEADERS = {b"II*\0": "<", b"MM\0*": ">"}

# The tags that tell of pixels, in TIFF 6.0, its supplements and the extension for ICC profiles.
_OF_PIXELS = {
    *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 318, 319, 320),
    *(322, 323, 324, 325, 338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521),
    *(529, 530, 531, 532, 34675),
}
# The least and the greatest value.
_OF_RANGE = {280, 281, 340, 341}


class TiffEntry(NamedTuple):
    """An entry of a directory: its tag, type and number of values, and their place."""

    tag: int
    kind: int
    values: int
    place: int


def order_of(data: bytes) -> str | None:
    """Return the byte order of a TIFF file as struct's code; None for all other files."""
    return _HEADERS.get(data[:4])


def entries_of(data: bytes) -> Iterator[TiffEntry]:
    """Yield the entries of the first directory, as far as the file goes."""
    order = order_of(data)
    try:
        (directory,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, directory)
        for place in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", data, place)
            yield TiffEntry(tag, kind, values, place + 8)
    except struct.error:
        return


def without_metadata(data: bytes, strict: bool = False) -> BinaryIO:
    """Open a TIFF file without tags that do not tell of pixels, so that none can spoil them.

    Its image is as if its orientation were upright. BigTIFF and all other files are opened as they
    are. The pixels are not copied: an uncompressed file may have 400 MB.

    Args:
        data: the file.
        strict: keep the first image alone, and no tag that decoders need not read.
    """
    order = order_of(data)
    if order is None:
        return io.BytesIO(data)
    tags = _OF_PIXELS if strict else _OF_PIXELS | _OF_RANGE
    kept = sorted({e.tag: e for e in entries_of(data) if e.tag in tags}.items())
    directory = [
        bytes(len(data) % 2),
        struct.pack(f"{order}H", len(kept)),
        *(data[e.place - 8 : e.place + 4] for _, e in kept),
        bytes(4) if strict else _next_directory(data, order),
    ]
    header = data[:4] + struct.pack(f"{order}I", len(data) + len(data) % 2)
    return io.BufferedReader(_Spliced(header, memoryview(data)[8:], b"".join(directory)))


class _Spliced(io.RawIOBase):
    """A file of several parts in memory, one behind the other."""

    def __init__(self, *parts: Buffer) -> None:
        self._parts = [memoryview(part) for part in parts]
        self._size = sum(map(len, self._parts))
        self._place = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Buffer, /) -> int:
        """Copy the bytes at the present place, as far as one part goes."""
        target, begin = memoryview(buffer).cast("B"), 0
        for part in self._parts:
            if self._place < begin + len(part):
                piece = part[self._place - begin :][: len(target)]
                target[: len(piece)] = piece
                self._place += len(piece)
                return len(piece)
            begin += len(part)
        return 0


def _next_directory(data: bytes, order: str) -> bytes:
    """Return the place of the second directory, 0 where there is none, as it is stored."""
    try:
        (directory,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, directory)
    except struct.error:
        return bytes(4)
    end = directory + 2 + 12 * count
    return data[end : end + 4].ljust(4, b"\0")
