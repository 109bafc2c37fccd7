"""Images as tensors in [-1, 1], and pictures made of them."""

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from metatrain.data.decoding.grey_16 import Bits, png_of_16_bits
from metatrain.data.images import to_array

_MARGIN = 1


def grid(images: Tensor, columns: int) -> Tensor:
    """Tile images [N, C, H, W] in [-1, 1] row by row into one [C, rows * H', columns * W'].

    A margin of one grey pixel surrounds every image; empty places are grey.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    h, w = height + 2 * _MARGIN, width + 2 * _MARGIN
    sheet = torch.zeros(rows * columns, channels, h, w)
    sheet[:, 3:] = 1  # Opaque, where there is alpha.
    sheet[:count, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = images.cpu()
    tiled = sheet.reshape(rows, columns, channels, h, w).permute(2, 0, 3, 1, 4)
    return tiled.reshape(channels, rows * h, columns * w)


def tiles(picture: Tensor, columns: int) -> Tensor:
    """Cut a picture of `grid` into its square images [N, C, H, W], with grey ones for empty places.

    Raises:
        ValueError: when it is not a grid of `columns` columns of squares.
    """
    side, rest = divmod(picture.shape[2], columns)
    if rest or side <= 2 * _MARGIN or picture.shape[1] % side:
        raise ValueError(f"{tuple(picture.shape)} is no grid of {columns} columns")
    cut = picture.unflatten(1, (-1, side)).unflatten(3, (columns, side))
    inner = cut.permute(1, 3, 0, 2, 4)[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return inner.flatten(0, 1)


def decode(encoded: list[bytes], size: int, channels: int) -> Tensor:
    """Decode images into one tensor [N, channels, size, size] in [-1, 1].

    Raises:
        BadImage: when one of them is not an image.
    """
    # By a table and not by torch, whose threads would compete for the CPUs with those that decode.
    arrays = [to_array(image, size, channels) for image in encoded]
    return torch.from_numpy(np.stack([_VALUES[a.dtype.itemsize].take(a) for a in arrays]))


def from_uint8(image: Tensor) -> Tensor:
    """Convert 0 .. 255 to [-1, 1]."""
    return image.float() / 127.5 - 1


def from_levels(levels: Tensor) -> Tensor:
    """Convert 0 .. 255 of uint8, or 0 .. 65,535 of uint16, to [-1, 1]."""
    return levels.float() / 32767.5 - 1 if levels.dtype == torch.uint16 else from_uint8(levels)


# By the bytes of a level.
_VALUES = {
    1: from_levels(torch.arange(2**8).to(torch.uint8)).numpy(),
    2: from_levels(torch.arange(2**16).to(torch.uint16)).numpy(),
}


def to_uint8(image: Tensor) -> Tensor:
    """Convert [-1, 1] to 0 .. 255."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_levels(images: Tensor, bits: Bits) -> Tensor:
    """Convert [-1, 1] to 0 .. 255 of uint8, or to 0 .. 65,535 of uint16 for 16 bits."""
    if bits == 8:
        return to_uint8(images)
    return ((images.clamp(-1, 1) + 1) * 32767.5).round().to(torch.uint16)


def on_white(images: Tensor) -> Tensor:
    """Lay RGBA images [..., 4, H, W] in [-1, 1] on white, [..., 3, H, W]; others stay the same."""
    if images.shape[-3] != 4:
        return images
    colours, alpha = images[..., :3, :, :], ((images[..., 3:, :, :] + 1) / 2).clamp(0, 1)
    return colours * alpha + (1 - alpha)


def png(image: Tensor, scale: int = 1) -> bytes:
    """Encode an image [C, H, W] in [-1, 1] as a PNG file of 8 bits, each pixel `scale` wide."""
    return encoded(_enlarged(image, scale))


def lossless(image: Tensor, bits: Bits) -> bytes:
    """Encode an image [C, H, W] in [-1, 1] as a PNG file of 8 bits, or of 16 where it is grey."""
    if bits == 8:
        return png(image)
    return png_of_16_bits(Image.fromarray(to_levels(image, 16)[0].cpu().numpy()))


def _enlarged(image: Tensor, scale: int) -> Image.Image:
    [picture] = pil_images(image[None])
    size = (picture.width * scale, picture.height * scale)
    return picture.resize(size, Image.Resampling.NEAREST)


def pil_images(images: Tensor) -> list[Image.Image]:
    """Convert images [N, C, H, W] in [-1, 1] to grey, RGB or RGBA PIL images."""
    pixels = to_uint8(images).cpu().permute(0, 2, 3, 1).squeeze(-1).numpy()
    return [Image.fromarray(image) for image in pixels]


def contact_sheet(images: Tensor, kind: str = "PNG") -> bytes:
    """Encode images [N, C, H, W] as one picture, about as wide as high."""
    scale = max(1, 64 // images.shape[-1])
    return encoded(_enlarged(grid(images, columns=math.ceil(math.sqrt(len(images)))), scale), kind)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    """Encode a picture as a file: "PNG" and "WEBP" without loss, "JPEG" with little, on white."""
    if kind == "JPEG" and picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    buffer = io.BytesIO()
    options = {"PNG": {"optimize": True}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95}}
    picture.save(buffer, kind, **options[kind])
    return buffer.getvalue()
