"""Uploads of files of any size to S3 in parts, each with its own retries."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

from fsspec import AbstractFileSystem
from typing_extensions import Buffer

from metatrain.storage.retry import retrying

# S3 accepts 10,000 parts; all but the last must have 5 MiB.
_PART_BYTES = 32 * 2**20


def upload(fs: AbstractFileSystem, path: str, chunks: Iterable[Buffer]) -> None:
    """Upload the concatenation of `chunks`, which is invisible until it is complete.

    Args:
        fs: an S3 file system.
        path: bucket and key.
        chunks: of any sizes; two parts of them are in memory at once.
    """
    parts = _parts(chunks)
    first, second = next(parts, b""), next(parts, b"")
    if second:
        _upload_parts(fs, path, chain([first, second], parts))
    else:
        retrying(lambda: fs.pipe_file(path, first))


def _parts(chunks: Iterable[Buffer]) -> Iterator[bytes]:
    part = bytearray()
    for chunk in map(memoryview, chunks):
        for start in range(0, len(chunk), _PART_BYTES):
            part += chunk[start : start + _PART_BYTES]
            if len(part) >= _PART_BYTES:
                yield bytes(part[:_PART_BYTES])
                del part[:_PART_BYTES]
    if part:
        yield bytes(part)


def _upload_parts(fs: Any, path: str, parts: Iterable[bytes]) -> None:
    bucket, key, _ = fs.split_path(path)
    call = partial(fs.call_s3, Bucket=bucket, Key=key)
    begun = retrying(lambda: call("create_multipart_upload"))["UploadId"]
    call = partial(call, UploadId=begun)
    try:
        done = []
        for number, part in enumerate(parts, 1):
            answer = retrying(partial(call, "upload_part", PartNumber=number, Body=part))
            done.append({"PartNumber": number, "ETag": answer["ETag"]})
        retrying(lambda: call("complete_multipart_upload", MultipartUpload={"Parts": done}))
    except BaseException:
        with suppress(Exception):
            call("abort_multipart_upload")
        raise
