"""A body that comes in chunks, with the progress of its coming."""

from types import TracebackType
from typing import Self

from metatrain.base.progress import Progress


class Received:
    """The bytes of a file that have come so far.

    Args:
        url: the file's, for the display; its query is not shown, for it may have a signature.
        size: the file's size, 0 where nobody knows.
    """

    def __init__(self, url: str, size: int) -> None:
        self.data = bytearray()
        self._progress = Progress(f"reading {url.partition('?')[0]}, MB", size // 10**6)

    def add(self, chunk: bytes) -> None:
        """Append what came."""
        self.data += chunk
        self._progress.update(len(self.data) / 1e6)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._progress.close()
