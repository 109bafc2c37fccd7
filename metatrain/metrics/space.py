"""A feature space: what images are compared in."""

from typing import Protocol

from torch import Tensor


class FeatureSpace(Protocol):
    """Maps images to features, and says which space it is, for that stands beside every score."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def sha256(self) -> str:
        """Of the file that defines it; '' where the code alone does."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Features [..., D] of images [..., C, H, W] in [-1, 1]."""
        ...
