"""Files that change only from what is expected: created where none is, replaced as they were read.

A disk decides by exclusive names and locks, an object store by conditional requests (If-None-Match,
If-Match). Of other storages, such as `memory://` or `sftp://`, nothing of the kind is known: there
a file is written where none was seen, and read back after a while. So of two writers that meet
within that time the last one wins, and the first one notices.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import obstore
from fsspec.implementations.local import LocalFileSystem
from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

from metatrain.base.errors import UserError
from metatrain.storage.files import (
    MissingError,
    asking,
    filesystem_of,
    read_bytes,
    write_file,
)
from metatrain.storage.local_disk import write_new, write_whole
from metatrain.storage.object_stores import object_store_of
from metatrain.storage.ranges import refusal

if TYPE_CHECKING:  # obstore has it for type checkers only
    from obstore import UpdateVersion

# The status of a store's answer to a request of a kind that it does not know.
_NOT_IMPLEMENTED = "(501)"
# Longer than two writers of one storage need to see each other's file.
SETTLE_SECONDS = 1.0


class Stored(NamedTuple):
    """The content of a file, and its entity tag where the storage has such."""

    data: bytes
    tag: str = ""


def read_stored(url: str) -> Stored | None:
    """Read a file; None where there is none.

    Raises:
        UserError: when it cannot be read.
    """
    fs, path = filesystem_of(url)
    with suppress(MissingError):
        # The object store first: only it tells the entity tag.
        return asking(url, lambda: _get(url) or Stored(read_bytes(fs, path)))
    return None


def create(url: str, data: bytes) -> bool:
    """Write a file where there is none; return whether the file has this content now.

    So a request that is repeated, since its answer was lost, does not fail by what it wrote.

    Raises:
        UserError: when it cannot be written.
    """
    return asking(url, lambda: _create(url, data)) or _has(url, data)


def _create(url: str, data: bytes) -> bool:
    fs, path = filesystem_of(url)
    if isinstance(fs, LocalFileSystem):
        with suppress(FileExistsError):
            write_new(Path(path), [data])
            return True
        return False
    written = _put(url, data, "create")
    if written is None and not fs.exists(path):
        write_file(url, data)
        time.sleep(SETTLE_SECONDS)
    return bool(written)


def replace(url: str, data: bytes, before: Stored) -> bool:
    """Write a file where it still is as it was read; return whether it has this content now.

    Raises:
        UserError: when it cannot be written.
    """
    return asking(url, lambda: _replace(url, data, before)) or _has(url, data)


def _replace(url: str, data: bytes, before: Stored) -> bool:
    fs, path = filesystem_of(url)
    if isinstance(fs, LocalFileSystem):
        with _locked(Path(path), before) as file:
            if file is not None:
                write_whole(Path(path), [data])
            return file is not None
    written = _put(url, data, {"e_tag": before.tag}) if before.tag else None
    if written is None and read_stored(url) == before:
        fs.pipe_file(path, data)
        return True
    return bool(written)


def _has(url: str, data: bytes) -> bool:
    stored = read_stored(url)
    return stored is not None and stored.data == data


def remove(url: str, before: Stored) -> None:
    """Remove a file where it still is as it was read.

    An object store is asked for it just before, since none removes on a condition.

    Raises:
        UserError: when it cannot be removed.
    """
    fs, path = filesystem_of(url)
    with suppress(MissingError):
        if isinstance(fs, LocalFileSystem):
            asking(url, lambda: _remove_locally(Path(path), before))
        elif read_stored(url) == before:
            asking(url, lambda: fs.rm_file(path))


def _remove_locally(path: Path, before: Stored) -> None:
    with _locked(path, before) as file:
        if file is not None:
            path.unlink()


def keeps_conditions(url: str, data: bytes) -> bool:
    """Tell whether a store refuses to create the file `url`, which has `data`, once more.

    Some stores with S3's protocol overlook the condition, without a word.

    Raises:
        UserError: when the store cannot be asked.
    """
    return not asking(url, lambda: _put(url, data, "create"))


def _get(url: str) -> Stored | None:
    """Read from an object store; None where only fsspec can."""
    folder, _, name = url.rpartition("/")
    store = object_store_of(folder)
    if store is None:
        return None
    try:
        answer = obstore.get(store, name)
        return Stored(bytes(answer.bytes()), answer.meta["e_tag"] or "")
    except FileNotFoundError:
        raise
    except Exception as error:
        raise refusal(str(error)) from None


def _put(url: str, data: bytes, condition: "Literal['create'] | UpdateVersion") -> bool | None:
    """Write into an object store; return whether the condition held, None where it has none."""
    folder, _, name = url.rpartition("/")
    store = object_store_of(folder)
    if store is None:
        return None
    try:
        obstore.put(store, name, data, mode=condition)
    except (AlreadyExistsError, PreconditionError):
        return False
    except FileNotFoundError:
        if condition == "create":  # there is no such bucket
            raise
        return False
    except NotSupportedError:
        return None
    except Exception as error:
        reason = refusal(str(error))
        if _NOT_IMPLEMENTED in str(reason):
            return None
        raise reason from None  # without the whole request
    return True


@contextmanager
def _locked(path: Path, before: Stored) -> Iterator[int | None]:
    """Open a file for this process alone, where it still is as it was read; else yield None."""
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} is a link, and is not followed; remove it.") from error
        raise
    try:
        with suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file if _is_at(path, file) and _content(file) == before.data else None
    finally:
        os.close(file)


def _is_at(path: Path, file: int) -> bool:
    """Tell whether an open file still has its name: another may have removed it meanwhile."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file))
    return False


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size + 1, 0)
