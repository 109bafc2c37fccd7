"""FastGAN: skip-layer excitation, and a discriminator that restores what it has seen."""

from itertools import pairwise
from typing import cast

import torch
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
from metatrain.generators.networks.layers import Context, group_norm
from metatrain.generators.networks.sections import FastGANConfig


class FastGAN(AdversarialNetwork):
    """Players for few images (Liu et al. 2021, "Towards Faster and Stabilized GAN Training").

    The normalisation is GroupNorm, and no noise is injected between the layers.

    Args:
        config: their size.
        shape: of an example as the network sees it, [C, H, W], H = W.

    Raises:
        UserError: when H is not a small number doubled a few times.
    """

    Config = FastGANConfig
    head = ("generator.out", "discriminator.out")

    def __init__(self, config: FastGANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.embedding = 4 * config.width
        self.generator = SkipGenerator(config, shape)
        self.discriminator = RestoringDiscriminator(config, shape)

    @override
    def generate(self, latents: Tensor, condition: Tensor) -> Tensor:
        return self.generator(latents, condition, self.context)

    @override
    def discriminate(self, images: Tensor, condition: Tensor) -> Judgement:
        return self.discriminator(images, condition)

    @override
    def restoration_error(
        self, images: Tensor, features: tuple[Tensor, ...], windows: Tensor
    ) -> Tensor:
        """Compute the error of two decoders (eq. 4), with the mean absolute difference for theirs.

        One restores the whole image at half its size from the last features, the other a quarter
        of it in full from the same quarter of the features before.
        """
        before, last = features
        discriminator = cast(RestoringDiscriminator, self.discriminator)
        whole = discriminator.decode_whole(last)
        small = F.adaptive_avg_pool2d(images, whole.shape[-1])
        side = -(-before.shape[-1] // 2)
        quarter = discriminator.decode_part(quarters(before, windows, side))
        scale = images.shape[-1] // before.shape[-1]
        wanted = quarters(images, windows, scale * side)
        return (whole - small).abs().mean() + (quarter - wanted).abs().mean()


class SkipGenerator(nn.Module):
    """A map from latents to images, whose large maps are gated by small ones."""

    def __init__(self, config: FastGANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        (channels, side, _), width, embedding = shape, config.width, 4 * config.width
        self.sides = doubled(side, side)
        self.set_encoder = set_encoder(channels, width, config.support)
        self.embed = Embedding(embedding, width if config.support else 0)
        # At most four times the width where maps are small.
        widths = [width * min(4, 2**i) for i in reversed(range(len(self.sides)))]
        self.start = nn.Linear(embedding, 2 * widths[0] * self.sides[0] ** 2)
        self.norm_start = group_norm(2 * widths[0])
        self.blocks = nn.ModuleList(GatedBlock(a, b) for a, b in pairwise(widths))
        self.excitations = nn.ModuleList(
            Excitation(low, high) for low, high in zip(widths, widths[2:], strict=False)
        )
        self.out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, latents: Tensor, condition: Tensor, context: Context | None) -> Tensor:
        """Map `latents` [B, LATENT] and `condition` [B, T] to images [B, C, H, W] in [-1, 1]."""
        embedding, first = self.embed(latents, condition, context), self.sides[0]
        start = self.start(embedding).unflatten(1, (-1, first, first))
        maps = [F.glu(self.norm_start(start), dim=1)]
        for level, block in enumerate(self.blocks, start=1):
            h = block(F.interpolate(maps[-1], scale_factor=2.0, mode="nearest"))
            maps.append(h if level < 2 else self.excitations[level - 2](maps[level - 2], h))
        return self.out(maps[-1]).tanh()


class GatedBlock(nn.Module):
    """A 3x3 convolution with a gated linear unit."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 2 * channels, 3, padding=1)
        self.norm = group_norm(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [B, channels_in, H, W] to [B, channels, H, W]."""
        # Enlarged maps may be laid out by channels, of which torch cannot normalise groups in vmap.
        return F.glu(self.norm(self.conv(x.contiguous())), dim=1)


class Excitation(nn.Module):
    """Skip-layer excitation, y = F(x_low) * x_high (eq. 2)."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.squeeze, self.gate = nn.Conv2d(low, high, 4), nn.Conv2d(high, high, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Gate the channels of `high` [B, high, H, W] by `low` [B, low, h, w]."""
        h = self.squeeze(F.adaptive_avg_pool2d(low, 4))
        return high * self.gate(F.leaky_relu(h, 0.1)).sigmoid()


class RestoringDiscriminator(nn.Module):
    """A map from images to logits, with decoders that only training uses."""

    def __init__(self, config: FastGANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, width = shape[0], config.width
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.blocks = nn.ModuleList(HalvingBlock(a, b) for a, b in pairwise(widths))
        self.out = Projection(widths[-1], width if config.support else 0)
        self.decode_part, self.decode_whole = (
            nn.Sequential(
                nn.Upsample(scale_factor=2.0),
                GatedBlock(features, width),
                nn.Upsample(scale_factor=2.0),
                GatedBlock(width, width),
                nn.Conv2d(width, channels, 3, padding=1),
                nn.Tanh(),
            )
            for features in widths[2:]
        )

    def forward(self, images: Tensor, condition: Tensor) -> Judgement:
        """Compute the logits of `images` [B, C, H, W], and two feature maps."""
        h = F.leaky_relu(self.stem(images), 0.2)
        features: list[Tensor] = []
        for block in self.blocks:
            h = block(h)
            features.append(h)
        return Judgement(self.out(h, condition), tuple(features[1:]))


class HalvingBlock(nn.Module):
    """The mean of a convolutional path and a pooled one, each at half the resolution."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels_in, channels, 4, stride=2, padding=1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.pooled = nn.Conv2d(channels_in, channels, 1)
        self.norm_in, self.norm = group_norm(channels), group_norm(channels)
        self.norm_pooled = group_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [B, channels_in, H, W] to [B, channels, H / 2, W / 2]."""
        h = F.leaky_relu(self.norm_in(self.conv_in(x)), 0.2)
        h = F.leaky_relu(self.norm(self.conv(h)), 0.2)
        pooled = self.norm_pooled(self.pooled(F.avg_pool2d(x, 2)))
        return (h + F.leaky_relu(pooled, 0.2)) / 2


def quarters(maps: Tensor, windows: Tensor, side: int) -> Tensor:
    """Cut out one of the four corners, `side` wide, of each of `maps` [B, C, H, W].

    Args:
        maps: feature maps or images.
        windows: [B] in [0, 1), which chooses the corner.
        side: of a corner; corners may overlap.
    """
    start = maps.shape[-1] - side
    corners = torch.stack(
        [maps[..., y : y + side, x : x + side] for y in (0, start) for x in (0, start)], dim=1
    )
    number = (4 * windows).long()[:, None]
    chosen = (number == torch.arange(4, device=maps.device)).to(maps.dtype)
    return torch.einsum("bq,bqchw->bchw", chosen, corners)
