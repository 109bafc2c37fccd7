"""A temporary file for what can be read only once and in order, but is packed in another."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from tempfile import TemporaryFile
from typing import NamedTuple

from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.storage.files import reaching

# Images are compressed already: what grows more than so many times is a bomb.
MOST_GROWTH = 200
_ALWAYS_ALLOWED = 1_000_000_000
# The share of the disk that stays free for others: a server may send without an end.
_SHARE_LEFT = 0.05


class SpoolSpan(NamedTuple):
    """Some bytes of a spool."""

    start: int
    length: int


class Spool:
    """Bytes on disk that vanish with the object; threads may read at once.

    Args:
        name: of what is spooled, for messages.
        packed_bytes: its size where it lies; much more than that is refused. None: no limit.

    Attributes:
        file: the file itself.
    """

    def __init__(self, name: str, packed_bytes: int | None = None) -> None:
        self._name = name
        self.file = TemporaryFile()  # noqa: SIM115  It closes with the object.
        self._end = 0
        self._most = (
            None if packed_bytes is None else max(_ALWAYS_ALLOWED, MOST_GROWTH * packed_bytes)
        )

    def write(self, chunks: Iterable[bytes]) -> SpoolSpan:
        """Append the concatenation of `chunks`.

        Raises:
            UserError: when the disk is nearly full, or more comes than can be honest.
        """
        start = self._end
        for chunk in chunks:
            with reaching("the temporary folder"):
                self._end += self.file.write(chunk)
            self._refuse_full_disk()
            if self._most is not None and self._end > self._most:
                raise UserError(
                    f"{self._name} unpacks to more than {self._most:,} bytes, as no images do; "
                    "unpack it yourself if you trust it."
                )
        with reaching("the temporary folder"):
            self.file.flush()
        return SpoolSpan(start, self._end - start)

    def _refuse_full_disk(self) -> None:
        disk = os.fstatvfs(self.file.fileno())
        if disk.f_bavail < _SHARE_LEFT * disk.f_blocks:
            raise UserError(
                f"{self._name} has filled the temporary folder with {self._end:,} bytes, up to "
                f"{_SHARE_LEFT:.0%} of its disk, and goes on; set TMPDIR to a larger disk, or copy "
                f"it yourself if you trust it."
            )

    def read(self, extent: SpoolSpan) -> bytes:
        """Read some of what was written.

        Raises:
            BadImage: when it ends too early.
        """
        data = os.pread(self.file.fileno(), extent.length, extent.start)
        if len(data) != extent.length:
            raise BadImage("corrupt or truncated")
        return data

    def reader(self, extent: SpoolSpan) -> Callable[[], bytes]:
        """Return a function that reads `extent`."""
        return partial(self.read, extent)
