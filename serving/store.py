"""The files of a client's adaptations in a store, at a path or any fsspec URL."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from io import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO, cast

from typing_extensions import override

from metatrain.preferences.choices import Line
from metatrain.storage.files import (
    asking,
    filesystem_of,
    reaching,
    read_file,
    sizes_under,
    write_file,
)
from metatrain.storage.retry import retrying
from serving.disk import Disk, are_remains, is_identifier
from serving.records import RECORD

# Bytes that are read ahead of a client that takes a file.
_BLOCK_BYTES = 1 << 20


class StoreDisk(Disk):
    """The files of a client in a store, which one process alone may write.

    Files have the paths that they have below the URL, and are written as a whole or not at all.

    Args:
        url: the URL.
        most: the bytes that the files may take.
        check: returns if this process still is the one that may write, and else raises.
    """

    def __init__(self, url: str, most: int, check: Callable[[], None]) -> None:
        super().__init__(most)
        self._url, self._check = url.rstrip("/"), check
        # Of every file, since a store would be asked each time.
        self._sizes: dict[Path, int] = {}

    @override
    def folders(self, folder: Path) -> list[Path]:
        names: dict[Path, dict[str, int]] = defaultdict(dict)
        for path, size in sizes_under(self.url(folder)).items():
            identifier, _, name = path.partition("/")
            if is_identifier(identifier):
                names[folder / identifier][name] = size
        for each, files in names.items():
            self._sizes |= {each / name: size for name, size in files.items()}
            self._bytes[each] = sum(files.values())
        remains = [each for each, files in names.items() if RECORD not in files]
        for each in remains:
            if are_remains(names[each]):
                self.remove_folder(each)
        return sorted(names.keys() - set(remains))

    @override
    def url(self, file: Path) -> str:
        return f"{self._url}/{file}"

    @override
    def read(self, file: Path) -> bytes:
        return read_file(self.url(file))

    @override
    def open(self, file: Path) -> tuple[BinaryIO, int]:
        fs, path = filesystem_of(self.url(file))

        def opened() -> tuple[BinaryIO, int]:
            stream = cast(Any, fs.open(path, "rb", block_size=_BLOCK_BYTES))
            size = stream.seek(0, SEEK_END)
            stream.seek(0)
            return stream, size

        return asking(self.url(file), opened)

    @override
    def has(self, file: Path) -> bool:
        return file in self._sizes

    @override
    def write_record(self, file: Path, data: bytes) -> None:
        self._put(file, data)

    @override
    def append_line(self, file: Path, line: Line) -> None:
        before = self.read(file) if self.has(file) else b""
        self._put(file, before + line.model_dump_json().encode() + b"\n")

    @override
    def remove_folder(self, folder: Path) -> None:
        files = [file for file in [*self._sizes] if folder in file.parents]
        # The record first, so that a crash meanwhile leaves what the next start removes.
        for file in sorted(files, key=lambda file: file.name != RECORD):
            self._unlink(file)
        self._forget_folder(folder)

    @override
    def _size(self, file: Path) -> int:
        return self._sizes.get(file, 0)

    @override
    def _put(self, file: Path, data: bytes) -> None:
        self._check()
        write_file(self.url(file), data)
        self._sizes[file] = len(data)

    @override
    def _unlink(self, file: Path) -> None:
        self._check()
        fs, path = filesystem_of(self.url(file))
        # Not there where a try before has removed it.
        with reaching(self.url(file)), suppress(FileNotFoundError):
            retrying(lambda: fs.rm_file(path))
        self._sizes.pop(file, None)


def folder_names(url: str) -> list[str]:
    """List the names of the folders at `url`; none where nothing is there."""
    return sorted({path.partition("/")[0] for path in sizes_under(url) if "/" in path})
