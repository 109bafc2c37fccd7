"""Reading many images at once, ahead of the one that is packed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from metatrain.data.images import BadValue
from metatrain.data.packing.raw_images import RawImage

# Requests to an object store take long, and cost little memory and no CPU.
_THREADS = 16
# Bytes that may wait before no further file is asked for.
_WAITING_BYTES = 256_000_000


class ReadImage(NamedTuple):
    """An image, and its bytes or the reason why there are none."""

    image: RawImage
    content: bytes | BadValue


def read_ahead(images: Iterable[RawImage]) -> Iterator[ReadImage]:
    """Read `images` on several threads; yield them in their order."""
    pending: deque[tuple[RawImage, Future[bytes | BadValue]]] = deque()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for image in images:
            pending.append((image, pool.submit(_read, image.read)))
            while len(pending) >= _THREADS or _waiting(pending) > _WAITING_BYTES:
                yield _next(pending)
        while pending:
            yield _next(pending)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(read: Callable[[], bytes]) -> bytes | BadValue:
    try:
        return read()
    except BadValue as error:
        return error


def _next(pending: deque[tuple[RawImage, Future[bytes | BadValue]]]) -> ReadImage:
    image, content = pending.popleft()
    return ReadImage(image, content.result())


def _waiting(pending: Iterable[tuple[RawImage, Future[bytes | BadValue]]]) -> int:
    contents = [content.result() for _, content in pending if content.done()]
    return sum(len(content) for content in contents if isinstance(content, bytes))
