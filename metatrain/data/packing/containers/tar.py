"""Tar archives, plain or compressed."""

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.data.packing.containers.archive import decompressed, open_archive
from metatrain.data.packing.containers.container import Container, check_size
from metatrain.data.packing.containers.member_names import Members
from metatrain.storage.files import reaching


class Tar(Container):
    """The files of a tar archive.

    Args:
        url: of the archive.

    Raises:
        UserError: when it is not there, or is no tar archive.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._file = decompressed(open_archive(url), url)
        self._members = Members[tarfile.TarInfo]()
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                for member in archive:
                    if not member.isdir():
                        self._members.add(member.name, member, _is_plain(member))
        except (tarfile.TarError, EOFError, ValueError, RecursionError, OverflowError) as error:
            raise UserError(f"{url} cannot be read as a tar archive ({error}); mend it.") from error
        if isinstance(self._file.name, str):
            self._file.close()  # A process may open a thousand files, and shards may be more.

    @property
    @override
    def sizes(self) -> Mapping[str, int]:
        return {name: member.size for name, member in self._members.kept.items()}

    @property
    @override
    def refused(self) -> list[tuple[str, BadImage]]:
        return self._members.refused

    @override
    def read(self, name: str) -> bytes:
        member = self._members.find(name)
        check_size(member.size)
        data = self._bytes_at(member.offset_data, member.size)
        if len(data) != member.size:
            raise BadImage("corrupt or truncated")
        return data

    def _bytes_at(self, start: int, length: int) -> bytes:
        if not self._file.closed:
            return os.pread(self._file.fileno(), length, start)
        with reaching(self.url), Path(self._file.name).open("rb") as file:
            file.seek(start)
            return file.read(length)


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse() and member.size >= 0
