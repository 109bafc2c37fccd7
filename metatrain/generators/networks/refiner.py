"""Refiners: players of which the generator changes images, and the discriminator judges places."""

from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from metatrain.generators.networks.adversarial import Players
from metatrain.generators.networks.sections import RefinerConfig


class RefiningNetwork(Players):
    """Players that refine images of any size."""

    @abstractmethod
    def refine(self, images: Tensor) -> Tensor:
        """Refine simulated images [B, C, H, W] in [-1, 1]; the result may lie a little outside."""

    @abstractmethod
    def judge(self, images: Tensor) -> Tensor:
        """Compute the logits [B, P] of P places of images [B, C, H, W], higher for real ones."""

    @property
    @abstractmethod
    def reach(self) -> int:
        """The pixels of an image around a place that decide about its refinement."""


class Refiner(RefiningNetwork):
    """A residual generator and a local discriminator, of convolutions alone.

    Shrivastava et al. 2017, "Learning from Simulated and Unsupervised Images through Adversarial
    Training" (SimGAN), section 2.1: no pooling in the generator, so that nothing moves, and a
    discriminator of patches. There is no normalisation, whose statistics would reach over the whole
    image. The generator adds to its input, and its last layer starts at 0, so that a new refiner
    changes nothing.

    Args:
        config: its size.
        shape: of an example, of which only the channels count.
    """

    Config = RefinerConfig
    head = ("generator.last", "discriminator.last")

    def __init__(self, config: RefinerConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.generator = ResidualRefiner(config, shape[0])
        self.discriminator = PatchDiscriminator(config.width, shape[0])

    @override
    def refine(self, images: Tensor) -> Tensor:
        return self.generator(images)

    @override
    def judge(self, images: Tensor) -> Tensor:
        return self.discriminator(images)

    @property
    @override
    def reach(self) -> int:
        return 1 + 2 * len(self.generator.blocks)  # pyright: ignore[reportArgumentType]


class ResidualRefiner(nn.Module):
    """A map from images to refined ones of their size."""

    def __init__(self, config: RefinerConfig, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, config.width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(config.width) for _ in range(config.blocks))
        self.last = nn.Conv2d(config.width, channels, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] to refined ones of their shape."""
        h = self.first(images)
        for block in self.blocks:
            h = block(h)
        return images + self.last(h.relu())


class _Block(nn.Module):
    """Two 3x3 convolutions beside a skip connection; starts as the latter."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(width, width, 3, padding=1)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.conv_in(x.relu()).relu())


class PatchDiscriminator(nn.Module):
    """Logits of places, each of which sees 15 x 15 pixels: four convolutions of stride 4."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.second = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.third = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits [B, P] of images [B, C, H, W]; P is about H W / 16."""
        h = images
        for layer in (self.first, self.second, self.third):
            h = F.leaky_relu(layer(h), 0.2)
        return self.last(h).flatten(1)
