"""A degradation: blur, subsampling, noise and JPEG, and the pairs that it makes of one image."""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from metatrain.data.degradations.bicubic import resampled
from metatrain.data.degradations.kernels import blurred

# The condition of an example: the image of low resolution that it is enlarged from.
LOW = "low"

Subsampling = Literal["direct", "bicubic"]


@dataclass(frozen=True)
class Degradation:
    """A map from images of a high resolution to a low one.

    Attributes:
        scale: the high resolution divided by the low one.
        kernel: [k, k], blurs first; None for no blur.
        subsampling: "direct" takes every `scale`-th pixel from the first on; "bicubic" averages.
        noise: the standard deviation of Gaussian noise, of 255 levels.
        jpeg: the quality of compression; None for none.
        levels: the result is rounded to so many levels above black, as a file's pixels are. A
            network that never saw rounding would amplify it where it undoes a blur.
    """

    scale: int
    kernel: np.ndarray | None = None
    subsampling: Subsampling = "bicubic"
    noise: float = 0.0
    jpeg: int | None = None
    levels: int = 255

    def __call__(self, image: np.ndarray, stream: np.random.Generator) -> np.ndarray:
        """Degrade an image [C, H, W] in [-1, 1] to [C, H / scale, W / scale].

        Args:
            image: its sides are multiples of `scale`; C is 1 or 3.
            stream: of the noise.
        """
        if self.kernel is not None:
            image = blurred(image, self.kernel)
        if self.subsampling == "direct":
            low = image[:, :: self.scale, :: self.scale]
        else:
            low = resampled(image, 1 / self.scale)
        if self.noise:
            low = low + stream.normal(0, self.noise / 127.5, low.shape)
        half = self.levels / 2
        rounded = ((low.clip(-1, 1) + 1) * half).round() / half - 1
        return rounded if self.jpeg is None else _compressed(rounded, self.jpeg)

    @property
    def margin(self) -> int:
        """The pixels around a place that decide about it, as a multiple of `scale`."""
        reach = 0 if self.kernel is None else len(self.kernel) // 2
        return -(-(reach + 2 * self.scale) // self.scale) * self.scale


def self_pair(
    image: np.ndarray,
    top: int,
    left: int,
    size: int,
    degradation: Degradation,
    stream: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a parent out of an image, and make its son, which is the parent degraded further.

    The son is that of the whole image: what lies around the parent blurs into it.

    Args:
        image: [C, H, W] in [-1, 1].
        top: of the parent, a multiple of the scale.
        left: of the parent, likewise.
        size: side of the parent, likewise.
        degradation: from parent to son.
        stream: of the noise.

    Returns:
        The son [C, size / scale, size / scale], and the parent [C, size, size].
    """
    scale, margin = degradation.scale, degradation.margin
    above, before = max(0, top - margin), max(0, left - margin)
    region = image[:, above : top + size + margin, before : left + size + margin]
    height, width = (side // scale * scale for side in region.shape[1:])
    sons = degradation(region[:, :height, :width], stream)
    row, column, side = (top - above) // scale, (left - before) // scale, size // scale
    son = sons[:, row : row + side, column : column + side]
    return son, image[:, top : top + size, left : left + size]


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    pixels = ((image.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    values = np.asarray(Image.open(buffer), np.float64) / 127.5 - 1
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
