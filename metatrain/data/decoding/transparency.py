"""Transparency: where a file keeps it, and the background that takes its place."""

from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageFile

from metatrain.data.decoding.bad import BadImage
from metatrain.data.decoding.strips import band_extrema, converted, rows_of

Background = Literal["white", "black", "auto", "keep"]

# A background hides an image whose levels differ by less, of 255.
_VISIBLE = 32


def is_padding(alpha: Image.Image) -> bool:
    """Return whether the alpha of a BMP is padding: 0 in every pixel."""
    return alpha.getbbox() is None


def key_of(image: ImageFile.ImageFile) -> int | tuple[int, ...] | None:
    """Return the colour that a file declares transparent, in the values of its decoded pixels.

    To be called before the pixels are loaded. None where there is none, or a palette has it.
    """
    key = image.info.get("transparency")
    if image.mode in ("P", "PA") or not isinstance(key, int | tuple):
        return None
    # A PNG names the level as stored; decoding scales levels of 2 and 4 bits to 8.
    few_bits = {"L;2": 85, "L;4": 17}
    scale = max((few_bits.get(str(tile.args), 1) for tile in image.tile), default=1)
    return key * scale if isinstance(key, int) else key


def with_key(image: Image.Image, key: int | tuple[int, ...]) -> Image.Image:
    """Return an 8-bit grey or RGB image as one with alpha, clear where it has the colour `key`."""
    keys = key if isinstance(key, tuple) else (key,)
    image = image.convert("L") if image.mode == "1" else image
    differing = Image.new("L", image.size)
    for band, level in zip(image.split(), keys, strict=False):
        table = [0 if value == level else 255 for value in range(256)]
        differing = ImageChops.lighter(differing, band.point(table))
    return with_alpha(image, differing)


def with_alpha(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Return a grey or RGB image with an alpha channel."""
    image = image.convert("LA" if image.mode == "L" else "RGBA")
    image.putalpha(alpha)
    return image


def settle(image: Image.Image, background: Background, notes: list[str]) -> Image.Image:
    """Put an image with alpha on a background, or keep its alpha, and add to `notes`.

    Args:
        image: of mode LA, La, PA, RGBa or RGBA, or P with a transparent colour.
        background: 'auto' is white, or black where white would hide the image.
        notes: of the image.

    Returns:
        An image of mode L or RGB, or RGBA where `background` keeps it.

    Raises:
        BadImage: when nothing but a single colour is left to see.
    """
    plain = "L" if image.mode in ("LA", "La") else "RGB"
    image = image if image.mode == "RGBA" else converted(image, "RGBA", _as_rgba)
    lowest, highest = band_extrema(image)[3]
    if lowest == 255:
        return converted(image, plain, lambda strip: strip.convert(plain))
    if highest == 0:
        raise BadImage("wholly transparent")
    if background == "keep":
        notes.append("transparent: kept")
        return image
    ground = "black" if background == "black" else "white"
    result = _on(image, ground, plain)
    if background == "auto" and _contrast(result) < _VISIBLE:
        other = _on(image, "black", plain)
        ground, result = max(("white", result), ("black", other), key=lambda r: _contrast(r[1]))
    if _contrast(result) == 0:
        raise BadImage(
            f"transparent: a single colour on {ground}",
            "another background may show it, or keep its transparency",
        )
    notes.append(f"transparent: on {ground}")
    return result


def whiten_clear_pixels(image: Image.Image) -> Image.Image:
    """Return an RGBA image whose clear pixels, which may have any colour, are white.

    A generator would otherwise learn what nobody sees. An image that is so already is returned
    itself.
    """
    strips = (np.asarray(image.crop(box)) for box in rows_of(image.size))
    return converted(image, "RGBA", _whiten) if any(_hidden(s).any() for s in strips) else image


def _whiten(strip: Image.Image) -> Image.Image:
    pixels = np.array(strip)
    pixels[_hidden(pixels), :3] = 255
    return Image.fromarray(pixels)


def _hidden(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 3] == 0) & (pixels[..., :3] != 255).any(axis=-1)


def _as_rgba(strip: Image.Image) -> Image.Image:
    # Premultiplied modes convert to their plain ones alone.
    strip = strip.convert("LA") if strip.mode == "La" else strip
    return strip.convert("RGBA")


def _on(image: Image.Image, colour: str, mode: str) -> Image.Image:
    def flatten(strip: Image.Image) -> Image.Image:
        ground = Image.new("RGBA", strip.size, colour)
        return Image.alpha_composite(ground, strip).convert(mode)

    return converted(image, mode, flatten)


def _contrast(image: Image.Image) -> int:
    return max(high - low for low, high in band_extrema(image))
