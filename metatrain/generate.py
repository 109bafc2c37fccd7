"""Drawing new images with an adapted model."""

import math

import torch
from torch import Tensor

from metatrain.errors import UserError
from metatrain.model import Model
from metatrain.pictures import grid, png

# Images drawn at once, so that memory does not grow with their number.
_CHUNK = 64


def generate(model: Model, count: int, seed: int = 0) -> Tensor:
    """Draw `count` images [count, C, H, W] in [-1, 1]; the same seed draws the same images.

    Raises:
        UserError: when `model` has not been adapted to anything.
    """
    if model.support is None:
        raise UserError("this model has not been adapted; run metatrain adapt on it first.")
    generator = model.generator()
    chunks = [min(_CHUNK, count - start) for start in range(0, count, _CHUNK)]
    return torch.cat(
        [
            generator.sample(model.support, size, _chunk_seed(seed, i))
            for i, size in enumerate(chunks)
        ]
    )


def contact_sheet(images: Tensor) -> bytes:
    """Images [N, C, H, W] as one PNG, about as wide as high."""
    scale = max(1, 64 // images.shape[-1])
    return png(grid(images, columns=math.ceil(math.sqrt(len(images)))), scale)


def _chunk_seed(seed: int, chunk: int) -> int:
    return seed * 1_000_003 + chunk
