"""TAEF2, the tiny autoencoder of FLUX.2, whose middle blocks diffusers does not build."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.generators.codecs.codec import Codec
from metatrain.generators.codecs.sections import TAEF2Config
from metatrain.generators.frozen import load_frozen

_LATENT, _WIDTH, _FACTOR = 32, 64, 8


class _Clamp(nn.Module):
    """A soft bound of latents."""

    def forward(self, x: Tensor) -> Tensor:
        """Bound `x` to (-3, 3)."""
        return 3 * torch.tanh(x / 3)


class _Block(nn.Module):
    """Three convolutions beside a skip connection, in the middle with a pool of features first."""

    def __init__(self, is_middle: bool = False) -> None:
        super().__init__()
        pair = (_conv(_WIDTH, _WIDTH), nn.ReLU())
        self.conv = nn.Sequential(*pair, _conv(_WIDTH, _WIDTH), nn.ReLU(), _conv(_WIDTH, _WIDTH))
        self.pool = _pool() if is_middle else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to as much."""
        x = x if self.pool is None else x + self.pool(x)
        return torch.relu(self.conv(x) + x)


def _pool() -> nn.Sequential:
    wide = 4 * _WIDTH
    return nn.Sequential(
        nn.Conv2d(_WIDTH, wide, 1, bias=False),
        nn.GroupNorm(4, wide),
        nn.ReLU(),
        nn.Conv2d(wide, _WIDTH, 1, bias=False),
    )


def _conv(inputs: int, outputs: int, **options: bool | int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)  # pyright: ignore


def _encoder() -> nn.Sequential:
    def shrunk(is_middle: bool = False) -> list[nn.Module]:
        return [_conv(_WIDTH, _WIDTH, stride=2, bias=False), *(_Block(is_middle) for _ in range(3))]

    return nn.Sequential(
        *(_conv(3, _WIDTH), _Block()), *shrunk(), *shrunk(), *shrunk(True), _conv(_WIDTH, _LATENT)
    )


def _decoder() -> nn.Sequential:
    def grown(is_middle: bool = False) -> list[nn.Module]:
        blocks = [_Block(is_middle) for _ in range(3)]
        return [*blocks, nn.Upsample(scale_factor=2), _conv(_WIDTH, _WIDTH, bias=False)]

    return nn.Sequential(
        *(_Clamp(), _conv(_LATENT, _WIDTH), nn.ReLU()),
        *(*grown(True), *grown(), *grown()),
        *(_Block(), _conv(_WIDTH, 3)),
    )


class TAEF2(Codec):
    """Latents [32, H / 8, W / 8] of FLUX.2, by 1.3 million parameters each way.

    Args:
        config: its files.
    """

    Config = TAEF2Config

    def __init__(self, config: TAEF2Config) -> None:
        super().__init__(config)
        self.encoder, self.decoder = _encoder(), _decoder()
        load_frozen(self.encoder, config.encoder)
        load_frozen(self.decoder, config.decoder)

    @override
    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        if channels != 3 or size % _FACTOR:
            raise UserError(
                f"codec.name=taef2 encodes RGB images of a multiple of {_FACTOR} a side, and data "
                f"has {channels} channels and {size}; change data.channels and data.image_size."
            )
        return _LATENT, size // _FACTOR, size // _FACTOR

    @override
    def encode(self, images: Tensor) -> Tensor:
        return self.encoder((images + 1) / 2)

    @override
    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents) * 2 - 1
