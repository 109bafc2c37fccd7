"""Pixels as features: no network can be blamed for what they say."""

from torch import Tensor

from metatrain.data.pictures import png
from metatrain.metrics.precomputed import pixel_hash
from metatrain.storage.files import write_file


class Pixels:
    """The values of an image, one after the other."""

    name, sha256 = "pixels", ""

    def features(self, images: Tensor) -> Tensor:
        """Features [..., C * H * W] of images [..., C, H, W]."""
        return images.flatten(-3)


class ExportedPixels(Pixels):
    """The same, and every image that is looked at is written, for another program's features.

    Args:
        folder: a path or any fsspec URL; an image is a PNG named by its `pixel_hash`.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._written: set[bytes] = set()

    def features(self, images: Tensor) -> Tensor:
        """Features [..., C * H * W] of images [..., C, H, W]."""
        for image in images.flatten(0, -4):
            name = pixel_hash(image)
            if name not in self._written:
                write_file(f"{self._folder}/{name.hex()}.png", png(image))
                self._written.add(name)
        return super().features(images)
