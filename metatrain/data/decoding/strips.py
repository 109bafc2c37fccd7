"""Converting large images in strips, so that intermediate images take little memory."""

from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

_PIXELS = 1_000_000


def rows_of(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the boxes of strips, from top to bottom, of about a million pixels each."""
    width, height = size
    step = max(1, _PIXELS // max(1, width))
    for top in range(0, height, step):
        yield (0, top, width, min(top + step, height))


def converted(
    image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Return an image of `mode` whose every strip is `convert` of the same strip of `image`."""
    result = Image.new(mode, image.size)
    for box in rows_of(image.size):
        result.paste(convert(image.crop(box)), box)
    return result


def band_extrema(image: Image.Image) -> list[tuple[int, int]]:
    """Return the least and the greatest value of each band of an 8-bit image."""
    extrema: Any = image.getextrema()
    return [extrema] if len(image.getbands()) == 1 else list(extrema)
