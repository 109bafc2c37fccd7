"""Pixels as features: no network can be blamed for what they say."""

from torch import Tensor


class Pixels:
    """The values of an image, one after the other."""

    name, sha256 = "pixels", ""

    def features(self, images: Tensor) -> Tensor:
        """Features [..., C * H * W] of images [..., C, H, W]."""
        return images.flatten(-3)
