"""Normalising images on every core, ahead of the one that is packed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from metatrain.base.machine import cores
from metatrain.data.images import MAX_PIXELS, BadValue, NormalisedImage, pixels_of
from metatrain.data.packing.raw_images import RawImage
from metatrain.data.packing.read_ahead import ReadImage

# Returns the tiles of an image: itself, unless it is cut.
Normaliser = Callable[[bytes], list[NormalisedImage]]


class DecodedImage(NamedTuple):
    """An image, normalised to its tiles, or the reason why it is refused."""

    image: RawImage
    result: list[NormalisedImage] | BadValue


class _Pending(NamedTuple):
    image: RawImage
    future: Future[list[NormalisedImage] | BadValue]
    pixels: int


def decode_ahead(reads: Iterable[tuple[ReadImage, Normaliser]]) -> Iterator[DecodedImage]:
    """Normalise each image by its function on one thread per core; yield them in their order.

    Images at work have `MAX_PIXELS` together, so that they take no more memory than a single one
    may.
    """
    pending: deque[_Pending] = deque()
    pool = ThreadPoolExecutor(cores())
    try:
        for (image, content), normaliser in reads:
            pixels = 0 if isinstance(content, BadValue) else pixels_of(content) or MAX_PIXELS
            while pending and not _has_room(pending, pixels):
                yield _next(pending)
            future = pool.submit(_normalise, content, normaliser)
            pending.append(_Pending(image, future, pixels))
        while pending:
            yield _next(pending)
    finally:
        pool.shutdown(cancel_futures=True)


def _has_room(pending: deque[_Pending], pixels: int) -> bool:
    # Twice as many as work, so that none waits for the one that is packed.
    few = len(pending) < 2 * cores()
    return few and sum(p.pixels for p in pending) + pixels <= MAX_PIXELS


def _normalise(
    content: bytes | BadValue, normaliser: Normaliser
) -> list[NormalisedImage] | BadValue:
    if isinstance(content, BadValue):
        return content
    try:
        return normaliser(content)
    except BadValue as error:
        return error


def _next(pending: deque[_Pending]) -> DecodedImage:
    image, future, _ = pending.popleft()
    return DecodedImage(image, future.result())
