"""Answers with files, which may be deleted at any moment, to clients that may read slowly."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from metatrain.storage.files import MissingError
from serving.disk import Disk
from serving.limits import Places, RequestError

_CHUNK = 64 << 10

# A picture stays as it is as long as its adaptation exists.
_UNCHANGING = {"cache-control": "private, max-age=31536000, immutable"}


async def file_answer(
    disk: Disk, file: Path, media_type: str, headers: Mapping[str, str] = _UNCHANGING
) -> Response:
    """Answer with a file; once it is open, a deletion does not cut it short.

    Raises:
        RequestError: when it is deleted already.
    """
    with deleted_meanwhile():
        opened, size = await asyncio.to_thread(disk.open, file)
    return StreamingResponse(
        _chunks(opened), media_type=media_type, headers={**headers, "content-length": str(size)}
    )


async def picture_answer(disk: Disk, file: Path) -> Response:
    """Answer with a picture.

    Raises:
        RequestError: when it is deleted already.
    """
    return await file_answer(disk, file, "image/png")


class MadeAnswer(Response):
    """An answer that is made when it is sent, and holds a place until it has arrived.

    So few of them are in memory at one time, whoever reads how slowly.

    Args:
        make: makes the body.
        media_type: its type.
        places: the places.
        seconds: the time that a client may take to read it.
        held: what holds the files that it is made of, closed as soon as it is made.
    """

    def __init__(
        self,
        make: Callable[[], bytes],
        media_type: str,
        *,
        places: Places,
        seconds: float,
        held: ExitStack | None = None,
    ) -> None:
        super().__init__(media_type=media_type)
        self._make, self._places, self._seconds = make, places, seconds
        self._held = held or ExitStack()

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held, self._places:
            with deleted_meanwhile():
                data = await asyncio.to_thread(self._make)
            self._held.close()
            length = {"content-length": str(len(data))}
            parts = (data[i : i + _CHUNK] for i in range(0, len(data), _CHUNK))
            answer = StreamingResponse(parts, media_type=self.media_type, headers=length)
            async with asyncio.timeout(self._seconds):
                await answer(scope, receive, send)


@contextmanager
def deleted_meanwhile() -> Iterator[None]:
    """Refuse a request whose files were deleted while it was on its way.

    Raises:
        RequestError: when one is missing.
    """
    try:
        yield
    except (FileNotFoundError, MissingError) as error:
        raise RequestError(404, "this was deleted meanwhile.") from error


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk
