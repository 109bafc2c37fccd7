"""Feature spaces, in which images are compared."""

from typing import Protocol

from torch import Tensor


class FeatureSpace(Protocol):
    """A map from images to features, with the name and hash to report beside every score."""

    @property
    def name(self) -> str:
        """The name of the space in tables."""
        ...

    @property
    def sha256(self) -> str:
        """The sha256 of the file that defines it, or '' if the code alone does."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Return features [..., D] of images [..., C, H, W] in [-1, 1]."""
        ...
