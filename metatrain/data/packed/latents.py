"""Latents stored with a data set: which codec made them, of which images, and in what form.

Torch is imported where there are latents, and packing images does without it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from metatrain.data.images import BadValue

if TYPE_CHECKING:
    from torch import Tensor

# The column of latents, in place of whose values images need not be read.
LATENT = "latent"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Values of one latent at most: those of the largest image.
_MOST = 4 * 512 * 512


@dataclass(frozen=True, kw_only=True)
class PackedLatents:
    """The latents of a data set, float16 in little-endian order.

    Flips and crops of an image have other latents, and so the size of the images is part of them.

    Attributes:
        codec: sha256 of the codec: of its file, where it is one.
        shape: of one latent, (C, H, W).
        image_size: height and width of the encoded images in pixels.
        channels: of the encoded images.
    """

    codec: str
    shape: tuple[int, int, int]
    image_size: int
    channels: int

    @property
    def bytes(self) -> int:
        """Bytes of one latent."""
        return 2 * prod(self.shape)

    def to_json(self) -> str:
        """Return what `parse_latents` reads."""
        return json.dumps(asdict(self))


def parse_latents(data: bytes) -> PackedLatents:
    """Parse the latents that a manifest names.

    Raises:
        ValueError, LookupError, TypeError: when they are impossible.
    """
    values = json.loads(data)
    numbers = [*values["shape"], values["image_size"], values["channels"]]
    if not all(type(n) is int and 0 < n <= _MOST for n in numbers) or len(numbers) != 5:
        raise ValueError("it has latents of an impossible shape")
    if prod(values["shape"]) > _MOST or not _SHA256.fullmatch(values["codec"]):
        raise ValueError("it has impossible latents")
    return PackedLatents(**values | {"shape": tuple(values["shape"])})


def columns_of(latents: PackedLatents | None) -> list[str]:
    """Name the column of latents, where there are any."""
    return [LATENT] if latents else []


def encode_latents(latents: "Tensor") -> list[bytes]:
    """Return the packed values of latents [N, C, H, W].

    Raises:
        BadValue: when one is too large for float16, or not finite.
    """
    with np.errstate(over="ignore"):
        halves = latents.cpu().numpy().astype("<f2")
    if not np.isfinite(halves).all():
        raise BadValue("a latent is not finite in float16")
    return [latent.tobytes() for latent in halves]


def decode_latents(values: Sequence[bytes], shape: tuple[int, int, int]) -> "Tensor":
    """Return latents [N, C, H, W] in float32.

    Raises:
        BadValue: when one is of another size, or not finite.
    """
    import torch

    for value in values:
        if len(value) != 2 * prod(shape):
            raise BadValue(f"{len(value) // 2:,} numbers in place of {prod(shape):,}")
    numbers = np.frombuffer(bytearray().join(values), "<f2").astype(np.float32)
    if not np.isfinite(numbers).all():
        raise BadValue("a latent that is not finite")
    return torch.from_numpy(numbers).view(len(values), *shape)
