"""Pixels as features, which depend on no network."""

from torch import Tensor
from typing_extensions import override

from metatrain.data.pictures import on_white, png
from metatrain.metrics.precomputed import pixel_hash
from metatrain.storage.files import write_file


class Pixels:
    """The feature space of plain pixel values."""

    name, sha256 = "pixels", ""

    def features(self, images: Tensor) -> Tensor:
        """Return features [..., C * H * W] of images [..., C, H, W]."""
        return on_white(images).flatten(-3)


class ExportedPixels(Pixels):
    """A pixel space that writes every image it is given, for another program's features.

    Args:
        folder: a path or any fsspec URL; each image becomes a PNG file named by its `pixel_hash`.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._written: set[bytes] = set()

    @override
    def features(self, images: Tensor) -> Tensor:
        for image in on_white(images).flatten(0, -4):
            name = pixel_hash(image)
            if name not in self._written:
                write_file(f"{self._folder}/{name.hex()}.png", png(image))
                self._written.add(name)
        return super().features(images)
