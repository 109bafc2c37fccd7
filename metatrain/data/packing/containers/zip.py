"""Zip archives."""

import lzma
import stat
import zipfile
import zlib
from collections.abc import Mapping

from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.data.packing.containers.archive import open_archive
from metatrain.data.packing.containers.container import Container, check_size
from metatrain.data.packing.containers.member_names import Members

_ENCRYPTED = 1


class Zip(Container):
    """The files of a zip archive.

    Args:
        url: of the archive.

    Raises:
        UserError: when it is not there, or is no zip archive.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._members = Members[zipfile.ZipInfo]()
        try:
            self._archive = zipfile.ZipFile(open_archive(url))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
            raise UserError(f"{url} cannot be read as a zip archive ({error}); mend it.") from error
        for member in self._archive.infolist():
            if not member.filename or not member.is_dir():
                # Windows' own packer once wrote backslashes.
                name = member.filename.replace("\\", "/")
                self._members.add(name, member, _is_plain(member))

    @property
    @override
    def sizes(self) -> Mapping[str, int]:
        return {name: member.file_size for name, member in self._members.kept.items()}

    @property
    @override
    def refused(self) -> list[tuple[str, BadImage]]:
        return self._members.refused

    @override
    def read(self, name: str) -> bytes:
        member = self._members.find(name)
        check_size(member.file_size, member.compress_size)
        if member.flag_bits & _ENCRYPTED:
            raise BadImage("encrypted")
        try:
            # No more than is declared, whatever it would unpack to.
            with self._archive.open(member) as file:
                data = file.read(member.file_size)
                file.read(1)  # compares the checksum
        except NotImplementedError as error:
            raise BadImage("compressed in an unknown way", str(error)) from error
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            raise BadImage("corrupt or truncated") from error
        if len(data) != member.file_size:
            raise BadImage("corrupt or truncated")
        return data


def _is_plain(member: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(member.external_attr >> 16)
    return kind in (0, stat.S_IFREG)
