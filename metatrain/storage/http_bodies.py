"""Files by HTTP, of which no server makes this machine read more than it may hold."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fsspec.asyn import sync

from metatrain.base.errors import UserError
from metatrain.storage.local_disk import refuse_beyond_memory
from metatrain.storage.received import Received
from metatrain.storage.retry import GarbledError

# Of a file whose length the server does not tell.
_MOST_BYTES = 1_000_000_000
_CHUNK_BYTES = 1_000_000


def http_options(configured: Mapping[str, Any], *, connect: float, stall: float) -> dict[str, Any]:
    """Return the settings of fsspec's file system, with these seconds of patience.

    A body may take any time, but no silence, and is taken as it comes: a small one that is
    compressed could unpack to any length.

    Args:
        configured: the user's settings, in fsspec's configuration; they come first.
        connect: seconds until a connection stands.
        stall: seconds of silence.
    """
    from aiohttp import ClientTimeout  # beside fsspec, only where HTTP is used

    timeout = ClientTimeout(total=None, sock_connect=connect, sock_read=stall)
    return {
        "headers": {"Accept-Encoding": "identity"} | configured.get("headers", {}),
        "client_kwargs": {"timeout": timeout, "auto_decompress": False}
        | configured.get("client_kwargs", {}),
    }


def read_http(fs: Any, url: str, start: int | None, end: int | None) -> bytes:
    """Read the bytes [start, end) of a file, the whole file by default, in one request.

    Args:
        fs: fsspec's file system of HTTP, whose module needs aiohttp.
        url: the file.
        start: the first byte.
        end: the byte after the last.

    Raises:
        UserError: when the server sends more than is asked for, than it tells, or than there is
            memory for.
        GarbledError: when it sends less than it tells.
    """
    data = sync(fs.loop, _read, fs, url, start, end)
    assert isinstance(data, bytes)  # fsspec's own types leave it open.
    return data


async def _read(fs: Any, url: str, start: int | None, end: int | None) -> bytes:
    is_part = (start, end) != (None, None)
    session = await fs.set_session()
    options = {**fs.kwargs, "headers": _headers(fs, start, end) if is_part else _headers(fs)}
    async with session.get(fs.encode_url(url), **options) as answer:
        fs._raise_not_found_for_status(answer, url)
        if is_part and answer.status != HTTPStatus.PARTIAL_CONTENT:
            raise UserError(f"the server of {url} sends no parts of files; copy the file here.")
        length = answer.content_length
        most = _MOST_BYTES if length is None else length
        if end is not None:
            most = min(most, end - (start or 0))
        refuse_beyond_memory(url, most)
        with Received(url, length or 0) as received:
            async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                received.add(chunk)
                if len(received.data) > most:
                    raise UserError(f"the server of {url} sends more than {most:,} bytes; copy it.")
    if length is not None and len(received.data) < length:
        raise GarbledError
    return bytes(received.data)


def _headers(fs: Any, start: int | None = None, end: int | None = None) -> Mapping[str, str]:
    headers = dict(fs.kwargs.get("headers", {}))
    if (start, end) != (None, None):
        headers["Range"] = f"bytes={start or 0}-{'' if end is None else end - 1}"
    return headers
