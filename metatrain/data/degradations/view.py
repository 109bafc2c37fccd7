"""A view of a photograph: the pairs of low and high images of one episode."""

import numpy as np

from metatrain.data.degradations.degradation import Degradation, self_pair


class View:
    """A part of a photograph that is degraded, with one parent in the middle of its low image.

    Args:
        photo: [C, H, W] in [-1, 1]; its sides are at least `scale * size`.
        degradation: from the photograph to its low image, and from the parent to its son.
        size: side of the parent and of high images, a multiple of the scale.
        stream: decides on the part and the noise.

    Attributes:
        support: the son [C, size / scale, size / scale], and the parent [C, size, size].
    """

    def __init__(
        self, photo: np.ndarray, degradation: Degradation, size: int, stream: np.random.Generator
    ) -> None:
        scale = degradation.scale
        self._scale, self._size = scale, size
        # Around the parent as much as blurs into its son.
        whole = scale * (size + 2 * degradation.margin)
        height, width = (min(whole, side // scale**2 * scale**2) for side in photo.shape[1:])
        top = int(stream.integers(photo.shape[1] - height + 1))
        left = int(stream.integers(photo.shape[2] - width + 1))
        self._high = photo[:, top : top + height, left : left + width]
        self._low = degradation(self._high, stream)
        self._top, self._left = (
            (side - size) // (2 * scale) * scale for side in self._low.shape[1:]
        )
        self.support = self_pair(self._low, self._top, self._left, size, degradation, stream)

    def query(self, stream: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return a part of the parent, and the same part of the photograph."""
        side, scale = self._size // self._scale, self._scale
        row, column = (int(n) for n in stream.integers(self._size - side + 1, size=2))
        row, column = row + self._top, column + self._left
        low = self._low[:, row : row + side, column : column + side]
        row, column = scale * row, scale * column
        return low, self._high[:, row : row + self._size, column : column + self._size]
