"""Files of this machine: written under a name of their own first, and refused if they are none."""

import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import Buffer

from metatrain.base.errors import UserError
from metatrain.base.machine import free_memory

# Of a smaller file nobody asks whether there is memory for it.
_LARGE_BYTES = 2**30
# The end of a file's name while it is written.
PARTIAL = ".partial"


def write_whole(path: Path, chunks: Iterable[Buffer]) -> None:
    """Write a file, in the place of any of its name, and the folders above it."""
    with _written_beside(path, chunks) as partial:
        partial.replace(path)


def write_new(path: Path, chunks: Iterable[Buffer], mode: int = 0o666) -> None:
    """Write a file and the folders above it, where none of its name is.

    Args:
        path: of the file.
        chunks: its content.
        mode: its permissions, of which the process's mask takes some away.

    Raises:
        FileExistsError: when there is one.
    """
    with _written_beside(path, chunks, mode) as partial:
        try:
            path.hardlink_to(partial)
        except FileExistsError:
            raise
        except OSError:  # a disk without links, where others may see the file before its content
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, mode), "wb") as file:
                file.write(partial.read_bytes())
        partial.unlink()


@contextmanager
def _written_beside(path: Path, chunks: Iterable[Buffer], mode: int = 0o666) -> Iterator[Path]:
    """Write a file of a name that nobody else has; whoever enters gives it its own name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{path} needs a folder where a file is ({error.filename}); choose another place."
        ) from error
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(partial, flags, mode)
    try:
        with os.fdopen(opened, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())  # or a power cut might leave a name without its content
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_part(path: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read the bytes [start, end) of a file, the whole file by default.

    Raises:
        UserError: when it is a pipe or a device, or larger than the memory.
        OSError: when it cannot be read.
    """
    with open(path, "rb", opener=_unwaiting) as file:
        status = os.fstat(file.fileno())
        _refuse_kind(path, status.st_mode)
        stop = status.st_size if end is None else min(end, status.st_size)
        begin = min(start or 0, status.st_size)
        refuse_beyond_memory(path, stop - begin)
        file.seek(begin)
        return file.read() if end is None else file.read(max(0, stop - begin))


def _unwaiting(path: str, flags: int) -> int:
    """Open a file that may be a pipe: it is looked at once it is open.

    Before, another file could take its place meanwhile.
    """
    return os.open(path, flags | os.O_NONBLOCK)


def refuse_beyond_memory(name: str, size: int) -> None:
    """Refuse to read so many bytes of a file where there is no memory for them.

    A file with holes, or a server, claims any size at no cost.

    Raises:
        UserError: when there is none.
    """
    if size > _LARGE_BYTES and size > (free := free_memory()):
        raise UserError(
            f"{name} has {size:,} bytes, and this machine has memory for {free:,}; use a larger "
            f"one, or check the file."
        )


def refuse_what_is_no_file(path: str) -> None:
    """Refuse a pipe, a socket or a device, of which a read may never end.

    Raises:
        UserError: when it is one.
        OSError: when there is nothing.
    """
    _refuse_kind(path, Path(path).stat().st_mode)


def _refuse_kind(path: str, mode: int) -> None:
    kind = next((kind for kind, is_one in _NO_FILES.items() if is_one(mode)), None)
    if kind:
        raise UserError(f"{path} is a {kind}; give a file.")


_NO_FILES: dict[str, Callable[[int], bool]] = {
    "pipe": stat.S_ISFIFO,
    "socket": stat.S_ISSOCK,
    "device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
}
