"""Whole files and ranges of files at a path or any fsspec URL, with errors for people."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.config import conf
from fsspec.implementations.local import LocalFileSystem
from typing_extensions import Buffer

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.storage.multipart import upload
from metatrain.storage.retry import GarbledError, Result, retrying

# Seconds of silence after which a connection is given up.
STALL_SECONDS = 15.0
CONNECT_SECONDS = 5.0
# Errors of a disk that is full, or of a quota that is used up.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# More than the threads of any pool of readers, so that none waits for a connection.
CONNECTIONS = 64
# Bytes that are in memory at once where a file is read through.
_CHUNK_BYTES = 16_000_000


class MissingError(UserError):
    """A file or folder that is not there."""


def is_s3(url: str) -> bool:
    """Tell whether `url` lies in S3, or in a store with its protocol."""
    return url.startswith(("s3://", "s3a://"))


def absolute(url: str) -> str:
    """Make a path absolute; leave a URL as it is."""
    return url if "://" in url else str(Path(url).absolute())


def filesystem_of(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of `url`, and the path within it without a slash at the end.

    Raises:
        UserError: when the scheme is unknown, or its package is not installed.
    """
    with reaching(url):
        fs, path = fsspec.core.url_to_fs(url, **_options(url))
        if fs.protocol[0] == "s3":
            fs.retries = 1  # s3fs would multiply its own retries with botocore's and ours
    return fs, path.rstrip("/")


def _options(url: str) -> dict[str, Any]:
    """Return our settings of a file system, under those of fsspec's configuration."""
    if not is_s3(url):
        return {}
    config = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": STALL_SECONDS,
        "max_pool_connections": CONNECTIONS,
        "retries": {"mode": "standard", "total_max_attempts": 1},
        "signature_version": "s3v4",  # botocore would sign addresses by the one before
    }
    configured = conf.get("s3", {}).get("config_kwargs", {})
    # Other processes write here too, so a listing is never remembered.
    return {"config_kwargs": config | configured, "use_listings_cache": False}


def read_bytes(
    fs: AbstractFileSystem, path: str, start: int | None = None, end: int | None = None
) -> bytes:
    """Read the bytes [start, end) of a file, the whole file by default, in one request."""
    data = fs.cat_file(path, start=start, end=end)
    assert isinstance(data, bytes)  # fsspec's own types leave it open.
    return data


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn any failure to reach `url` into one sentence.

    Raises:
        MissingError: when there is no such file or folder.
        UserError: when the storage is full, or fails in any other way.
    """
    try:
        yield
    except (UserError, GarbledError):
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"there is nothing at {url}; check the path.") from error
    except OSError as error:
        if error.errno not in _FULL:
            raise _out_of_reach(url, error) from error
        raise UserError(
            f"there is no room for {url} ({error.strerror}); make some, or choose another folder."
        ) from error
    except Exception as error:  # Every kind of storage has exceptions of its own.
        raise _out_of_reach(url, error) from error


def _out_of_reach(url: str, error: Exception) -> UserError:
    return UserError(
        f"cannot reach {url}: {reason_of(error)}; check the address and your credentials."
    )


def asking(url: str, question: Callable[[], Result]) -> Result:
    """Return the answer of the storage at `url`; ask again while it fails in a way that may pass.

    Raises:
        MissingError: when there is no such file or folder.
        UserError: when the storage fails in any other way.
    """
    with reaching(url):
        return retrying(question)


def sizes_under(url: str) -> dict[str, int]:
    """Return the size of every file under `url`, in bytes by relative path; empty if none is there.

    Raises:
        UserError: when any of it cannot be listed, though it may be there.
    """
    fs, path = filesystem_of(url)
    fs.invalidate_cache()
    # Of a disk, fsspec would leave out what it fails to list.
    strictly: dict[str, Any] = {} if fs.async_impl else {"on_error": _unless_gone}
    try:
        # Not `glob`, which would take a bracket in a path for a pattern.
        details = asking(url, lambda: fs.find(path, detail=True, **strictly))
    except MissingError:
        return {}
    assert isinstance(details, dict)  # fsspec's own types leave it open.
    return {str(file)[len(path) + 1 :]: info["size"] for file, info in details.items()}


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def read_file(url: str) -> bytes:
    """Read a whole file.

    Raises:
        MissingError: when there is no such file.
        UserError: when it cannot be read.
    """
    fs, path = filesystem_of(url)
    return asking(url, lambda: read_bytes(fs, path))


def sha256_of(url: str) -> str:
    """Return the sha256 of a file, however large, in hexadecimal digits.

    Raises:
        MissingError: when there is no such file.
        UserError: when it cannot be read.
    """
    fs, path = filesystem_of(url)
    size = asking(url, lambda: int(fs.info(path)["size"]))
    digest = hashlib.sha256()
    for start in range(0, size, _CHUNK_BYTES):
        stop = min(size, start + _CHUNK_BYTES)
        digest.update(asking(url, partial(read_bytes, fs, path, start, stop)))
    return digest.hexdigest()


def write_file(url: str, data: bytes) -> None:
    """Write a file and the folders above it; no reader ever sees half of it.

    Raises:
        UserError: when it cannot be written.
    """
    fs, path = filesystem_of(url)
    with reaching(url):
        if isinstance(fs, LocalFileSystem):
            _write_locally(Path(path), [data])
            return
        _make_folder_above(fs, path)
        # Object stores show an upload once it is complete, and cannot rename.
        retrying(lambda: fs.pipe_file(path, data))


def write_chunks(url: str, chunks: Iterable[Buffer]) -> None:
    """Write a file as `write_file` does, but chunk by chunk, never with all of it in memory.

    Storages other than disks and S3 receive it from a temporary file.

    Raises:
        UserError: when it cannot be written.
    """
    fs, path = filesystem_of(url)
    with reaching(url):
        if isinstance(fs, LocalFileSystem):
            _write_locally(Path(path), chunks)
        elif is_s3(url):
            upload(fs, path, chunks)
        else:
            _make_folder_above(fs, path)
            with NamedTemporaryFile() as file:
                file.writelines(chunks)
                file.flush()
                retrying(lambda: fs.put_file(file.name, path))


def _make_folder_above(fs: AbstractFileSystem, path: str) -> None:
    if not fs.async_impl:  # object stores have no folders
        fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)


def _write_locally(path: Path, chunks: Iterable[Buffer]) -> None:
    unfinished = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished.open("wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())  # or a power cut might leave a name without its content
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
