"""Archives as local files that any place can be read of: those elsewhere are copied once."""

import bz2
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.data.packing.spool import Spool
from metatrain.storage.files import filesystem_of, reaching

_CHUNK_BYTES = 4_000_000
_COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


def open_archive(url: str) -> BinaryIO:
    """Open the file at `url`, as `open_at` does.

    Raises:
        UserError: when it is not there, is no file, or cannot be read.
    """
    return open_at(*filesystem_of(url), url)


def open_at(fs: AbstractFileSystem, path: str, url: str) -> BinaryIO:
    """Open a file on a disk as it is, and a copy of one that lies elsewhere.

    Args:
        fs: its file system.
        path: its path within it.
        url: its name for messages.

    Raises:
        UserError: when it is not there, is no file, or cannot be read.
    """
    if isinstance(fs, LocalFileSystem):
        with reaching(url):
            if not stat.S_ISREG(Path(path).stat().st_mode):
                raise UserError(f"{url} is not a file; check the path.")
            return Path(path).open("rb")
    copy = Spool(url)
    with reaching(url), fs.open(path, "rb") as stream:
        copy.write(_chunks(stream, stream, getattr(stream, "size", None) or 0, f"copying {url}"))
    copy.file.seek(0)
    return copy.file


def _chunks(stream: Any, file: Any, size: int, label: str) -> Iterator[bytes]:
    """Read a stream whole, and show how much of the `size` bytes of `file` behind it is read."""
    progress = Progress(f"{label}, MB", size // 10**6)
    try:
        for chunk in iter(partial(stream.read, _CHUNK_BYTES), b""):
            yield chunk
            progress.update(file.tell() / 1e6)
    finally:
        progress.close()


def decompressed(file: BinaryIO, url: str) -> BinaryIO:
    """Return `file` itself, or where it is compressed a copy that is not.

    Raises:
        UserError: when it is damaged, or a bomb.
    """
    head = os.pread(file.fileno(), 6, 0)
    opener = next((open_ for magic, open_ in _COMPRESSED.items() if head.startswith(magic)), None)
    if opener is None:
        return file
    size = os.fstat(file.fileno()).st_size
    copy = Spool(url, size)
    try:
        with opener(file) as stream:
            copy.write(_chunks(stream, file, size, f"unpacking {url}"))
    except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        raise UserError(f"{url} is damaged ({error}); copy it again.") from error
    copy.file.seek(0)
    return copy.file
