"""Byte ranges of files: from S3 by plain GETs of signed addresses, from elsewhere by fsspec.

s3fs takes three times the CPU of a GET, and takes it on one thread that all readers wait for. So it
only signs an address, once a file and some minutes, by whatever credentials and endpoint it has
found; the ranges come through botocore's connections, on the threads that want them.
"""

import os
import re
import time
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

import botocore.session
from botocore.awsrequest import AWSPreparedRequest
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from fsspec.config import conf

from metatrain.storage import files
from metatrain.storage.files import filesystem_of, is_s3, read_bytes
from metatrain.storage.retry import GarbledError

# Less than the ten minutes for which botocore's credentials are good at least.
_SIGNED_SECONDS = 240
# Answers below 500 that may be another one the next time.
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_QUERY = re.compile(r"\?[^\s\"']*")
_CODE = re.compile(rb"<Code>(\w+)</Code>")


def read_range(url: str, start: int, end: int) -> bytes:
    """The bytes [start, end) of the file at `url`, in one request; threads may share it.

    Raises:
        GarbledError: when the file ends before `start`.
        Exception: what the storage says otherwise; see `metatrain.storage.files.reaching`.
    """
    if not is_s3(url):
        return read_bytes(*filesystem_of(url), start, end)
    # By the clock that signatures go by: the monotonic one stands still while a machine sleeps.
    address = _signed(url, int(time.time() // _SIGNED_SECONDS))
    byte_range = {"Range": f"bytes={start}-{end - 1}"}
    request = AWSPreparedRequest("GET", address, byte_range, None, stream_output=True)
    try:
        response = _connections(_origin(address), os.getpid()).send(request)
        data: bytes = response.raw.read()
    except Exception as error:
        # Without the signature, which is good for whoever finds it in a log.
        raise OSError(_QUERY.sub("", str(error)) or type(error).__name__) from None
    if response.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise _refusal(response.status_code, data)
    return data


def forget_connections() -> None:
    """Sign and connect anew at the next read, by the environment as it is then."""
    _signed.cache_clear()
    _connections.cache_clear()


@lru_cache(maxsize=4096)
def _signed(url: str, period: int) -> str:
    """An address of the file at `url` that is good beyond the `period` in which it is asked for."""
    fs, path = filesystem_of(url)
    return fs.sign(path, expiration=2 * _SIGNED_SECONDS)


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


@lru_cache(maxsize=64)
def _connections(origin: str, process: int) -> URLLib3Session:
    """The connections of this process to `origin`: none may be shared across a fork."""
    verify = conf.get("s3", {}).get("client_kwargs", {}).get("verify")
    if verify is None:
        verify = botocore.session.get_session().get_config_variable("ca_bundle") or True
    return URLLib3Session(
        verify,
        get_environ_proxies(origin),
        (files.CONNECT_SECONDS, files.STALL_SECONDS),
        files.CONNECTIONS,
    )


def _refusal(status: int, answer: bytes) -> Exception:
    """The exception that an answer stands for: one that may pass, or one that will not."""
    code = _CODE.search(answer)
    reason = f"{code[1].decode() if code else HTTPStatus(status).phrase} ({status})"
    if status == HTTPStatus.NOT_FOUND:
        return FileNotFoundError(reason)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return GarbledError(reason)
    lasting = status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING
    return PermissionError(reason) if lasting else OSError(reason)
