"""The files of a client's adaptations, within a quota of bytes."""

import shutil
import threading
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.storage.files import reaching
from metatrain.storage.local_disk import write_whole
from serving.limits import RequestError


def make_private(folder: Path) -> None:
    """Make a folder, and those above it, that this user alone can read, unless it is there.

    Raises:
        UserError: when it cannot be made.
    """
    with reaching(str(folder)):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(
                f"{folder} has to be a folder, and a file is at {error.filename}; choose another "
                f"place."
            ) from error


class Disk:
    """The bytes that a client's files take, each in the folder of its adaptation.

    Args:
        most: the bytes that they may take.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes: dict[Path, int] = {}
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """The bytes that all files take."""
        with self._lock:
            return sum(self._bytes.values())

    def add_folder(self, folder: Path) -> None:
        """Count the files that a folder has already."""
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        with self._lock:
            self._bytes[folder] = size

    def write(self, file: Path, data: bytes) -> None:
        """Write a file.

        Raises:
            RequestError: when its bytes are beyond the quota.
        """
        growth = len(data) - _size(file)
        with self._lock:
            used = sum(self._bytes.values())
            if growth > 0 and used + growth > self._most:
                raise RequestError(
                    507,
                    f"your files have {used:,} bytes and may have {self._most:,}; delete some "
                    f"adaptations first.",
                )
            self._bytes[file.parent] = self._bytes.get(file.parent, 0) + growth
        try:
            write_whole(file, [data])
        except BaseException:
            with self._lock:
                self._bytes[file.parent] -= growth
            raise

    def remove(self, file: Path) -> None:
        """Remove a file, if it is there."""
        size = _size(file)
        file.unlink(missing_ok=True)
        with self._lock:
            self._bytes[file.parent] = self._bytes.get(file.parent, 0) - size

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder with all of its files."""
        shutil.rmtree(folder, ignore_errors=True)
        with self._lock:
            for known in [f for f in self._bytes if f == folder or folder in f.parents]:
                del self._bytes[known]
        if folder.exists():  # what cannot be removed takes its bytes still
            self.add_folder(folder)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
