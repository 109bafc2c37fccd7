"""Containers of files, as the kinds of sources see them."""

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import BinaryIO

from metatrain.base.text import printable
from metatrain.data.images import BadImage
from metatrain.data.packing.spool import MOST_GROWTH

# Larger files are no images, nor tables, that fit in memory beside others.
MAX_FILE_BYTES = 512_000_000
# A file of so many may be an empty picture, however well that is compressed.
_SMALL_BYTES = 64_000_000


class Container(ABC):
    """Files by their names: those of a folder, or of an archive; threads may read at once.

    Nothing is ever unpacked to a path of a stranger's choice, and no name leads out of it.

    Attributes:
        url: its place, for messages.
    """

    url: str

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file by its name: a relative path, with slashes."""

    def place_of(self, name: str) -> str:
        """Return the address of a file, for messages."""
        return printable(f"{self.url.rstrip('/')}/{name}")

    @property
    def refused(self) -> list[tuple[str, BadImage]]:
        """Members that are no files, or lead out of it, and why."""
        return []

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            BadImage: when it is not there, damaged, above `MAX_FILE_BYTES`, or leads out of it.
            UserError: when the storage fails.
        """

    def open(self, name: str) -> BinaryIO:
        """Open a file, of any size where it need not be in memory, to read any place of it.

        Raises:
            BadImage: as `read`.
            UserError: as `read`.
        """
        return io.BytesIO(self.read(name))


def check_size(size: int, packed: int | None = None) -> None:
    """Refuse a file of so many bytes where that is too many, or far more than it has packed.

    Args:
        size: its bytes.
        packed: the bytes that it has in an archive; None where it is not compressed.

    Raises:
        BadImage: when it is.
    """
    if size > MAX_FILE_BYTES:
        raise BadImage("huge", f"{size:,} bytes")
    if packed is not None and size > max(_SMALL_BYTES, MOST_GROWTH * packed):
        raise BadImage("unpacks to far more than images do", f"{size:,} bytes of {packed:,}")
