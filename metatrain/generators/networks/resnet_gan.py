"""A residual generator and discriminator, of the size of FIGR's."""

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from metatrain.generators.networks.adversarial import (
    AdversarialNetwork,
    Embedding,
    Judgement,
    Projection,
    doubled,
    set_encoder,
)
from metatrain.generators.networks.layers import Context, FiLM, ResidualBlock, group_norm
from metatrain.generators.networks.sections import ResNetGANConfig
from metatrain.generators.networks.velocity import refuse_uneven_patches


class ResNetGAN(AdversarialNetwork):
    """Residual players (Gulrajani et al. 2017, appendix C), as FIGR's (Clouatre and Demers 2019).

    Their normalisation is GroupNorm; the generator's blocks are modulated by the latents.

    Args:
        config: their size.
        shape: of an example as the network sees it, [C, H, W], H = W.

    Raises:
        UserError: when H is not a small number doubled a few times.
    """

    Config = ResNetGANConfig
    head = (
        *("generator.norm_out", "generator.film_out", "generator.out"),
        *("discriminator.norm_out", "discriminator.out"),
    )

    def __init__(self, config: ResNetGANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.embedding = 2 * config.width
        self.generator = ResidualGenerator(config, shape)
        self.discriminator = ResidualDiscriminator(config, shape)

    @override
    def generate(self, latents: Tensor, condition: Tensor) -> Tensor:
        return self.generator(latents, condition, self.context)

    @override
    def discriminate(self, images: Tensor, condition: Tensor) -> Judgement:
        return Judgement(self.discriminator(images, condition), ())


def sides_of(side: int, config: ResNetGANConfig) -> list[int]:
    """Return the sides of feature maps, the smallest first."""
    refuse_uneven_patches(side, config.patch)
    return doubled(side // config.patch, side)


class ResidualGenerator(nn.Module):
    """A map from latents to images."""

    def __init__(self, config: ResNetGANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        (channels, side, _), width, embedding = shape, config.width, 2 * config.width
        self.sides, self.unfold = sides_of(side, config), nn.PixelShuffle(config.patch)
        self.set_encoder = set_encoder(channels, width, config.support)
        self.embed = Embedding(embedding, width if config.support else 0)
        self.start = nn.Linear(embedding, width * self.sides[0] ** 2)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, embedding) for _ in self.sides[1:])
        self.norm_out, self.film_out = group_norm(width), FiLM(embedding, width)
        self.out = nn.Conv2d(width, channels * config.patch**2, 3, padding=1)

    def forward(self, latents: Tensor, condition: Tensor, context: Context | None) -> Tensor:
        """Map `latents` [B, LATENT] and `condition` [B, T] to images [B, C, H, W] in [-1, 1]."""
        embedding, first = self.embed(latents, condition, context), self.sides[0]
        h = self.start(embedding).unflatten(1, (-1, first, first))
        for block in self.blocks:
            h = block(F.interpolate(h, scale_factor=2.0, mode="nearest"), embedding)
        h = F.silu(self.film_out(self.norm_out(h), embedding))
        return self.unfold(self.out(h)).tanh()


class ResidualDiscriminator(nn.Module):
    """A map from images to logits."""

    def __init__(self, config: ResNetGANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        (channels, side, _), width = shape, config.width
        levels = len(sides_of(side, config))
        self.fold = nn.PixelUnshuffle(config.patch)
        self.stem = nn.Conv2d(channels * config.patch**2, width, 3, padding=1)
        self.blocks = nn.ModuleList(PlainBlock(width) for _ in range(levels))
        self.norm_out = group_norm(width)
        self.out = Projection(width, width if config.support else 0)

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """Compute the logits [B, 1] of `images` [B, C, H, W]."""
        h = self.stem(self.fold(images))
        for level, block in enumerate(self.blocks):
            h = block(F.avg_pool2d(h, 2) if level else h)
        h = F.leaky_relu(self.norm_out(h), 0.2)
        return self.out(h.mean(dim=(2, 3))[..., None], condition)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions beside a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_in, self.norm = group_norm(channels), group_norm(channels)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [B, C, H, W] to a tensor of its shape."""
        h = self.conv_in(F.leaky_relu(self.norm_in(x), 0.2))
        return x + self.conv(F.leaky_relu(self.norm(h), 0.2))
