"""Drawing new images with an adapted model."""

import torch
from torch import Tensor

from metatrain.base.errors import MissingStepError
from metatrain.model.file import Model

# Images drawn at once, so that memory does not grow with their number.
_CHUNK = 64


def generate(model: Model, count: int, seed: int = 0) -> Tensor:
    """Draw `count` images [count, C, H, W] in [-1, 1]; the same seed draws the same images.

    Raises:
        MissingStepError: when `model` has not been adapted to anything.
    """
    if model.support is None:
        raise MissingStepError(
            "this model has not been adapted; adapt it to a few images first.", step="adapt"
        )
    generator = model.generator()
    chunks = [min(_CHUNK, count - start) for start in range(0, count, _CHUNK)]
    return torch.cat(
        [
            generator.sample(model.support, size, _chunk_seed(seed, i))
            for i, size in enumerate(chunks)
        ]
    )


def _chunk_seed(seed: int, chunk: int) -> int:
    return seed * 1_000_003 + chunk
