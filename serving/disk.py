"""The files of a client's adaptations, within a quota of bytes."""

import os
import re
import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from metatrain.preferences.choices import Line, append_line
from metatrain.storage.local_disk import PARTIAL, write_whole
from serving.limits import RequestError
from serving.opening import make_private
from serving.records import RECORD

_ID = re.compile(r"[\w-]{22}")
# All that an adaptation writes but its record, so that nothing else is ever removed.
_FILES = re.compile(
    r"given-\d+\.png|given\.wav|step-\d+-\d+\.png|drawing-[\w.+-]+\.png|adapted\.safetensors|"
    r"lora\.(safetensors|zip)|choices\.jsonl|images|images/[0-9a-f]{64}\.png|(images/)?\..+"
    + re.escape(PARTIAL)
)


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

    def folders(self, folder: Path) -> list[Path]:
        """List the folders of adaptations in a folder, and count their files.

        What a crash has left there is removed. No link is followed.
        """
        make_private(folder)
        _remove_remains(folder)
        folders = [
            each
            for each in sorted(folder.iterdir())
            if is_identifier(each.name) and not each.is_symlink() and (each / RECORD).is_file()
        ]
        for each in folders:
            self._add_folder(each)
        return folders

    def url(self, file: Path) -> str:
        """Return the URL of a file."""
        return str(file)

    def read(self, file: Path) -> bytes:
        """Read a file.

        Raises:
            OSError: when it is not there or cannot be read.
            UserError: as an OSError.
        """
        return file.read_bytes()

    def open(self, file: Path) -> tuple[BinaryIO, int]:
        """Open a file to read from it; return its bytes too.

        Raises:
            OSError: when it is not there or cannot be read.
            UserError: as an OSError.
        """
        opened = file.open("rb")
        return opened, os.fstat(opened.fileno()).st_size

    def has(self, file: Path) -> bool:
        """Tell whether there is a file."""
        return file.is_file()

    def write_record(self, file: Path, data: bytes) -> None:
        """Write the record of an adaptation, which the quota does not count."""
        write_whole(file, [data])

    def append_line(self, file: Path, line: Line) -> None:
        """Append a choice or a mark to a file, which the quota does not count.

        Raises:
            UserError: when it cannot be written.
        """
        append_line(file, line)

    def write(self, file: Path, data: bytes) -> None:
        """Write a file.

        Raises:
            RequestError: when its bytes are beyond the quota.
        """
        growth = len(data) - self._size(file)
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
            self._put(file, data)
        except BaseException:
            with self._lock:
                self._bytes[file.parent] -= growth
            raise

    def remove(self, file: Path) -> None:
        """Remove a file, if it is there."""
        size = self._size(file)
        self._unlink(file)
        with self._lock:
            self._bytes[file.parent] = self._bytes.get(file.parent, 0) - size

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder with all of its files, the record first.

        So a crash meanwhile leaves what the next start removes.
        """
        with suppress(OSError):
            (folder / RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        self._forget_folder(folder)
        if folder.exists():  # what cannot be removed takes its bytes still
            self._add_folder(folder)

    def _add_folder(self, folder: Path) -> None:
        """Count the files that a folder has already."""
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        with self._lock:
            self._bytes[folder] = size

    def _forget_folder(self, folder: Path) -> None:
        """Count the files of a folder no more."""
        with self._lock:
            for known in [f for f in self._bytes if f == folder or folder in f.parents]:
                del self._bytes[known]

    def _size(self, file: Path) -> int:
        try:
            return file.stat().st_size
        except FileNotFoundError:
            return 0

    def _put(self, file: Path, data: bytes) -> None:
        write_whole(file, [data])

    def _unlink(self, file: Path) -> None:
        file.unlink(missing_ok=True)


def is_identifier(name: str) -> bool:
    """Tell whether a name is the id of an adaptation."""
    return _ID.fullmatch(name) is not None


def are_remains(names: Iterable[str]) -> bool:
    """Tell whether all files of a folder are of those that an adaptation writes before its record.

    Args:
        names: their paths in the folder.
    """
    return all(_FILES.fullmatch(name) for name in names)


def _remove_remains(folder: Path) -> None:
    """Remove what a crash has left: folders without a record, and halves of files.

    No link is followed.
    """
    for each in folder.iterdir():
        if not is_identifier(each.name) or each.is_symlink() or not each.is_dir():
            continue
        names = {str(file.relative_to(each)) for file in each.rglob("*")}
        if are_remains(names):
            shutil.rmtree(each, ignore_errors=True)
        elif RECORD in names:
            for partial in each.rglob(f".*{PARTIAL}"):
                partial.unlink()
