"""Whole files of S3, by one request each."""

from typing import Any

from fsspec.asyn import sync

from metatrain.storage.received import Received

_CHUNK_BYTES = 4_000_000


def read_s3(fs: Any, path: str) -> bytes:
    """Read a whole file; s3fs would ask for its size first, to read parts at the same time.

    Raises:
        Exception: what the storage says; see `metatrain.storage.files.reaching`.
    """
    data = sync(fs.loop, _read, fs, path)
    assert isinstance(data, bytes)  # fsspec's own types leave it open.
    return data


async def _read(fs: Any, path: str) -> bytes:
    bucket, key, version = fs.split_path(path)
    which = {"VersionId": version} if version else {}
    answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, **which)
    body = answer["Body"]
    try:
        with Received(f"s3://{path}", answer["ContentLength"]) as received:
            while chunk := await body.read(_CHUNK_BYTES):
                received.add(chunk)
    finally:
        body.close()
    return bytes(received.data)
