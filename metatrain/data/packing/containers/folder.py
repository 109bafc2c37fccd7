"""Folders at any URL."""

import os
import posixpath
import stat
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fsspec.implementations.local import LocalFileSystem
from typing_extensions import override

from metatrain.data.images import BadImage
from metatrain.data.packing.containers.archive import open_at
from metatrain.data.packing.containers.container import Container, check_size
from metatrain.storage.files import (
    MissingError,
    asking,
    filesystem_of,
    read_bytes,
    sizes_under,
)


class Folder(Container):
    """The files under a folder at a path or any fsspec URL.

    Args:
        url: of the folder.
        only: names of the files that `sizes` has, as 0 bytes, where the folder is not to be
            listed. Others can be read all the same.
    """

    def __init__(self, url: str, only: Sequence[str] = ()) -> None:
        self.url = url
        self._fs, self._root = filesystem_of(url)
        self._only = only

    @property
    @override
    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    @cached_property
    def _sizes(self) -> Mapping[str, int]:
        if self._only:
            return dict.fromkeys(self._only, 0)
        return sizes_under(self.url)

    @override
    def read(self, name: str) -> bytes:
        path = self._at(name)
        if not self._holds(path):
            raise BadImage("leads out of the source's folder")
        # One request each: a size that is not known from the listing is not asked for.
        known = self.__dict__.get("_sizes", {}).get(name, 0)
        check_size(self._local_size(path) if isinstance(self._fs, LocalFileSystem) else known)
        try:
            return asking(path, lambda: read_bytes(self._fs, path))
        except MissingError as error:
            raise BadImage("cannot be read") from error

    @override
    def open(self, name: str) -> BinaryIO:
        path = self._at(name)
        if not self._holds(path):
            raise BadImage("leads out of the source's folder")
        return open_at(self._fs, path, f"{self.url.rstrip('/')}/{name}")

    def _at(self, name: str) -> str:
        return posixpath.join(self._root, name)

    def _holds(self, path: str) -> bool:
        """Tell whether `path` lies in the folder, after its links are followed."""
        if isinstance(self._fs, LocalFileSystem):
            if "\0" in path:  # no name of a file has it
                return False
            return Path(path).resolve().is_relative_to(Path(self._root).resolve())
        return PurePosixPath(posixpath.normpath(path)).is_relative_to(self._root)

    def _local_size(self, path: str) -> int:
        try:
            status = Path(path).stat()
        except OSError as error:
            raise BadImage("cannot be read") from error
        if not os.access(path, os.R_OK):
            raise BadImage("cannot be read")
        if not stat.S_ISREG(status.st_mode):  # Reading a named pipe would never end.
            raise BadImage("not a file")
        return status.st_size
