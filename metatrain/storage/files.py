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
from metatrain.base.progress import Progress
from metatrain.base.text import reason_of
from metatrain.storage.http_bodies import http_options, read_http
from metatrain.storage.listing import list_files
from metatrain.storage.local_disk import read_part, refuse_what_is_no_file, write_whole
from metatrain.storage.multipart import upload
from metatrain.storage.refusals import refusal_of
from metatrain.storage.retry import GarbledError, Result, retrying
from metatrain.storage.s3_bodies import read_s3

# Seconds of silence after which a connection is given up.
STALL_SECONDS = 15.0
CONNECT_SECONDS = 5.0
# What a person can do about some errors of a disk, by their numbers.
_SENTENCES = (
    dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "there is no room for {url} ({reason}); make some, or choose another folder.",
    )
    | dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "{url} may not be used ({reason}); change its permissions, or choose another folder.",
    )
    | dict.fromkeys(
        (errno.EMFILE, errno.ENFILE),
        "{url} cannot be opened ({reason}); raise the limit, such as by ulimit -n 4096.",
    )
    | dict.fromkeys(
        (errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ),
        "{url} is no usable path ({reason}); check it, and the links along it.",
    )
    | {errno.EISDIR: "{url} is a folder, and a file is needed; name a file."}
)
# More than the threads of any pool of readers, so that none waits for a connection.
CONNECTIONS = 64
# Schemes that lead to files themselves, not through another file system to them.
_STORAGES = frozenset(
    ("file", "local", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https")
)
_HTTP = ("http", "https")
# Bytes that are in memory at once where a file is read through.
_CHUNK_BYTES = 16_000_000


class MissingError(UserError):
    """A file or folder that is not there."""


def is_s3(url: str) -> bool:
    """Tell whether `url` lies in S3, or in a store with its protocol."""
    return url.startswith(("s3://", "s3a://"))


def is_local(url: str) -> bool:
    """Tell whether `url` is a path of this machine."""
    return "://" not in url.removeprefix("file://")


def absolute(url: str) -> str:
    """Make a path absolute, from the user's home where it begins with `~`; keep any other URL.

    Raises:
        UserError: when there is no such user.
    """
    path = url.removeprefix("file://")
    if "://" in path:
        return url
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise UserError(f"{url} begins with an unknown user; write the path in full.") from error


def is_same_file(url: str, other: str) -> bool:
    """Tell whether two URLs are one file, however their paths are written or linked.

    Raises:
        UserError: as `absolute`.
    """
    places = map(absolute, (url, other))
    return len({os.path.realpath(place) if is_local(place) else place for place in places}) == 1


def filesystem_of(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of `url`, and the path within it without a slash at the end.

    Raises:
        UserError: when the scheme is unknown, or its package is not installed.
    """
    with reaching(url):
        fs, path = _opened(absolute(url))
        if fs.protocol[0] == "s3":
            fs.retries = 1  # s3fs would multiply its own retries with botocore's and ours
    return fs, path.rstrip("/")


def _opened(url: str) -> tuple[Any, str]:
    scheme, _, rest = url.partition("://")
    if "::" not in url or (rest and scheme not in _STORAGES):
        return fsspec.core.url_to_fs(url, **_options(url))
    # fsspec would take two colons in the name of a file for a chain of file systems.
    kind = fsspec.get_filesystem_class(scheme if rest else "file")
    return kind(**kind._get_kwargs_from_urls(url) | _options(url)), str(kind._strip_protocol(url))


def _options(url: str) -> dict[str, Any]:
    """Return our settings of a file system, under those of fsspec's configuration."""
    if url.startswith(("http://", "https://")):
        configured = conf.get(url.partition(":")[0], {})
        return http_options(configured, connect=CONNECT_SECONDS, stall=STALL_SECONDS)
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
    """Read the bytes [start, end) of a file, the whole file by default, in one request.

    Raises:
        UserError: when it is a pipe or a device of this machine, or has no end.
    """
    if isinstance(fs, LocalFileSystem):
        return read_part(path, start, end)
    if fs.protocol[0] in _HTTP:
        return read_http(fs, path, start, end)
    if fs.protocol[0] == "s3" and (start, end) == (None, None):
        return read_s3(fs, path)
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
        sentence = _SENTENCES.get(error.errno or 0)
        if sentence is None:
            raise _out_of_reach(url, error) from error
        raise UserError(sentence.format(url=url, reason=error.strerror)) from error
    except Exception as error:  # Every kind of storage has exceptions of its own.
        raise _out_of_reach(url, error) from error


def _out_of_reach(url: str, error: Exception) -> UserError:
    if refusal := refusal_of(error):
        return UserError(f"cannot reach {url}: {refusal.reason}; {refusal.advice}.")
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


def is_folder(url: str) -> bool:
    """Tell whether there is a folder at `url`.

    Raises:
        UserError: when the storage fails.
    """
    fs, path = filesystem_of(url)
    return bool(asking(url, lambda: fs.isdir(path)))


def exists(url: str) -> bool:
    """Tell whether there is a file or a folder at `url`.

    Raises:
        UserError: when the storage fails.
    """
    fs, path = filesystem_of(url)
    return bool(asking(url, lambda: fs.exists(path)))


def sizes_under(url: str) -> dict[str, int]:
    """Return the size of every file under `url`, in bytes by relative path; empty if none is there.

    The relative path of a file itself is "".

    Raises:
        UserError: when any of it cannot be listed, though it may be there.
    """
    fs, path = filesystem_of(url)
    fs.invalidate_cache()
    try:
        # Not `glob`, which would take a bracket in a path for a pattern.
        sizes = asking(url, lambda: list_files(fs, path))
    except MissingError:
        return {}
    return {file.removeprefix(path).lstrip("/"): size for file, size in sizes.items()}


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
    if isinstance(fs, LocalFileSystem):
        refuse_what_is_no_file(path)
    digest, progress = hashlib.sha256(), Progress(f"reading {url}, MB", size // 10**6)
    for start in range(0, size, _CHUNK_BYTES):
        stop = min(size, start + _CHUNK_BYTES)
        digest.update(asking(url, partial(read_bytes, fs, path, start, stop)))
        progress.update(stop / 1e6)
    progress.close()
    return digest.hexdigest()


def write_file(url: str, data: bytes) -> None:
    """Write a file and the folders above it; no reader ever sees half of it.

    Raises:
        UserError: when it cannot be written.
    """
    fs, path = filesystem_of(url)
    with reaching(url):
        if isinstance(fs, LocalFileSystem):
            write_whole(Path(path), [data])
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
            write_whole(Path(path), chunks)
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
