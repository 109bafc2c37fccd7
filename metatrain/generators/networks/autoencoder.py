"""A small autoencoder: convolutions between images and latents of a fourth or eighth of a side."""

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metatrain.base.errors import UserError
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.sections import AutoencoderConfig


class _Block(nn.Module):
    """Two convolutions beside a skip connection, which start as none."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to as much."""
        return x + self.second(torch.relu(self.first(torch.relu(x))))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, stride=stride)


def _last(inputs: int, outputs: int) -> nn.Conv2d:
    convolution = _conv(inputs, outputs)
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution


def _encoder(channels: int, config: AutoencoderConfig) -> nn.Sequential:
    width, wide, latent = config.width, 2 * config.width, 2 * config.latent_channels
    halvings = [part for _ in range(config.factor // 8) for part in (_conv(wide, wide, 2),)]
    return nn.Sequential(
        *(nn.PixelUnshuffle(2), _conv(4 * channels, width), _Block(width)),
        *(_conv(width, wide, 2), _Block(wide), *halvings, _Block(wide)),
        *(nn.ReLU(), _last(wide, latent)),
    )


def _decoder(channels: int, config: AutoencoderConfig) -> nn.Sequential:
    width, wide = config.width, 2 * config.width
    doublings = [
        part
        for _ in range(config.factor // 8)
        for part in (nn.Upsample(scale_factor=2), _conv(wide, wide), _Block(wide))
    ]
    return nn.Sequential(
        *(_conv(config.latent_channels, wide), _Block(wide), _Block(wide), *doublings),
        *(nn.Upsample(scale_factor=2), _conv(wide, width), _Block(width), _Block(width)),
        *(nn.ReLU(), _last(width, 4 * channels), nn.PixelShuffle(2)),
    )


class _Beside(nn.Module):
    """A network beside a linear map of patches, by which it learns what is not linear.

    Args:
        network: from images to latents, or back.
        linear: of the same shapes.
    """

    def __init__(self, network: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.network, self.linear = network, linear

    def forward(self, x: Tensor) -> Tensor:
        """Add both."""
        return self.network(x) + self.linear(x)


@torch.no_grad()
def _start_with_cosines(into: nn.Conv2d, back: nn.ConvTranspose2d) -> None:
    """Let latents be the first coefficients of patches in the discrete cosine transform.

    Nearly the best linear code of natural images (Ahmed et al. 1974), and so many steps of training
    ahead of a random one.
    """
    latent, channels, factor = back.in_channels, into.in_channels, into.kernel_size[0]
    across, along = _cosines(channels), _cosines(factor)
    # Slow waves first; differences of channels vary less than their mean.
    waves = sorted(
        product(range(channels), range(factor), range(factor)),
        key=lambda wave: (1.8 if wave[0] else 1.0) * (1 + wave[1]) * (1 + wave[2]),
    )
    for parameter in (*into.parameters(), *back.parameters()):
        nn.init.zeros_(parameter)
    for row, (c, y, x) in enumerate(waves[:latent]):
        into.weight[row] = torch.einsum("c,h,w->chw", across[c], along[y], along[x])
    back.weight.copy_(into.weight[:latent])
    # Little noise: the divergence alone would have a variance of 1.
    into.bias[latent:] = -6  # pyright: ignore[reportOptionalSubscript]


def _cosines(count: int) -> Tensor:
    """Return the orthonormal waves [count, count] of the discrete cosine transform (DCT-II)."""
    # With values even where a skeleton is made: arithmetic on meta tensors imports the compiler.
    orders = torch.arange(count, device="cpu", dtype=torch.float32)
    waves = (math.pi / count * orders[:, None] * (orders + 0.5)).cos()
    return F.normalize(waves, dim=1)


class Autoencoder(Network):
    """An encoder to a Gaussian over latents, and a decoder; without norms, so that colours stay.

    Both work on images of any size that the factor divides. Full resolution is left to a
    rearrangement of pixels, which makes it cheap on CPUs. A new one is linear.

    Args:
        config: its size.
        shape: of an image.

    Raises:
        UserError: when the factor does not divide the image, or latents would be larger than it.
    """

    Config = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.config = config
        self.latent_shape(shape)
        (channels, *_), factor, latent = shape, config.factor, config.latent_channels
        into = nn.Conv2d(channels, 2 * latent, factor, stride=factor)
        back = nn.ConvTranspose2d(latent, channels, factor, stride=factor)
        self.encoder = _Beside(_encoder(channels, config), into)
        self.decoder = _Beside(_decoder(channels, config), back)
        _start_with_cosines(into, back)

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape of the latent of an image of `shape`, [C, H, W].

        Raises:
            UserError: when such images cannot be encoded.
        """
        (channels, height, width), factor = shape, self.config.factor
        if height % factor or width % factor:
            raise UserError(
                f"an autoencoder of factor {factor} takes images of a multiple of {factor} a side, "
                f"and data has {height}; change data.image_size."
            )
        if self.config.latent_channels > channels * factor**2:
            raise UserError(
                f"generator.latent_channels is {self.config.latent_channels}, and {factor} x "
                f"{factor} pixels have {channels * factor**2} values; lower it."
            )
        return self.config.latent_channels, height // factor, width // factor

    def distribution(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, C, H, W] in [-1, 1] to means and log variances of latents."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 20)

    def encode(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] in [-1, 1] to the means of their latents."""
        return self.distribution(images)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents to images [B, C, H, W]."""
        return self.decoder(latents)
