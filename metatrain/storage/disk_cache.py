"""A cache of row groups on a local disk, so that none crosses the network twice."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.storage.files import absolute

_PARTIAL = ".partial"
# Evicting somewhat more than needed, so that not every row group costs a listing of the folder.
_KEPT_SHARE = 0.9


class DiskCache:
    """Bytes by their sha256 in a folder that all processes of a node may share.

    A file is named by the hash of what it holds and appears whole, and is verified when it is
    read, so that neither a kill nor a failing disk can make it hand out anything wrong. The folder
    never holds more than its budget: what was not read for longest goes first.

    Args:
        folder: a path on a local disk; made if it is not there.
        budget: the most bytes that it may hold.

    Raises:
        UserError: when the folder cannot be written.
    """

    def __init__(self, folder: str, budget: int) -> None:
        self._folder, self._budget = Path(absolute(folder)), budget
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                pass
        except OSError as error:
            raise UserError(
                f"the cache {folder} cannot be written ({error.strerror}); "
                "set data.cache_dir to a folder that can."
            ) from error

    def check_room(self, largest: int) -> None:
        """Refuse a data set whose largest row group, of `largest` bytes, does not fit.

        Raises:
            UserError: when the budget is less.
        """
        if largest > self._budget:
            raise UserError(
                f"data.cache_bytes={self._budget:,} is less than the largest row group of the "
                f"data set, {largest:,} bytes; raise it, or unset data.cache_dir."
            )

    def get(self, sha256: str) -> bytes | None:
        """Return the bytes of that hash, or None if they are not here whole."""
        file = self._folder / sha256
        try:
            data = file.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                os.utime(file)  # read just now: the last to go
                return data
            file.unlink()
        except OSError:
            pass  # never here, or evicted meanwhile
        return None

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Keep `data`, unless the disk is full or fails."""
        file = self._folder / sha256
        with suppress(OSError), self._locked() as lock:
            if file.exists():
                return
            total = self._total(lock)
            if total is None or total + len(data) > self._budget:
                total = self._evict(len(data))
            # Counted before it is there: after a kill the count is too high, never too low.
            _write_total(lock, total + len(data))
            partial = file.with_suffix(_PARTIAL)
            partial.write_bytes(data)
            partial.replace(file)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the folder's lock, whose file has the total; it is released if the process dies."""
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def _total(self, lock: int) -> int | None:
        """Return an upper bound of the bytes in the folder, or None if it is not known."""
        text = os.pread(lock, 32, 0)
        return int(text) if text.isdigit() else None

    def _evict(self, wanted: int) -> int:
        """Make room for `wanted` bytes, and return the bytes that stay in the folder."""
        kept: list[tuple[float, int, Path]] = []
        for file in self._folder.iterdir():
            if file.suffix == _PARTIAL:  # of a process that was killed, for we hold the lock
                file.unlink()
            elif len(file.name) == hashlib.sha256().digest_size * 2:
                with suppress(FileNotFoundError):  # found damaged by a reader, and removed
                    status = file.stat()
                    kept.append((status.st_mtime, status.st_size, file))
        kept.sort(reverse=True)
        total = sum(size for _, size, _ in kept)
        room = self._budget - wanted
        if total > room:
            room = min(room, int(_KEPT_SHARE * self._budget))
        while total > room:
            _, size, file = kept.pop()
            file.unlink(missing_ok=True)
            total -= size
        return total


def _write_total(lock: int, total: int) -> None:
    # Of one width, so that a shorter number leaves no digits of a longer one behind it.
    os.pwrite(lock, b"%032d" % total, 0)
