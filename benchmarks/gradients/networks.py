"""The networks that are measured, each of about 0.9 million parameters, on 28 x 28 grey images."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.generators import Draw, Generator
from metatrain.generators.networks.dit import DiT, DiTConfig
from metatrain.generators.networks.layers import group_norm
from metatrain.generators.networks.unet import UNet, UNetConfig

SIZE, CHANNELS = 28, 1


class ConvGAN(Generator):
    """The generator of a DCGAN (Radford et al. 2016) against a random discriminator that is frozen.

    Meta-training one needs nothing of the library but `draw` and `forward`. The norms are
    GroupNorm, since BatchNorm would carry one task into the next.
    """

    Config = UNetConfig  # has nothing to set, and so is never read
    head = ("out",)
    latent, width = 64, 64

    def __init__(self) -> None:
        super().__init__(None, SIZE, CHANNELS)
        wide, narrow = 3 * self.width, self.width
        self.stem = nn.ConvTranspose2d(self.latent, wide, 7)
        self.middle = nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)
        self.out = nn.ConvTranspose2d(narrow, CHANNELS, 4, stride=2, padding=1)
        self.norm_stem, self.norm_middle = group_norm(wide), group_norm(narrow)
        for name, shape in {
            "look_first": (narrow, CHANNELS, 4, 4),
            "look_second": (wide, narrow, 4, 4),
            "look_last": (1, wide, 7, 7),
        }.items():
            fan_in = shape[1] * shape[2] * shape[3]
            self.register_buffer(name, torch.randn(shape) * (2 / fan_in) ** 0.5)

    def draw(self, batch: Batch) -> Draw:
        """See `Generator.draw`: latent vectors, one an image of the batch."""
        stream = torch.Generator().manual_seed(hash((batch.seed, batch.draw)))
        shape = (len(batch.examples), self.latent, 1, 1)
        return (torch.randn(shape, generator=stream).to(batch.examples.target),)

    def forward(self, *draw: Tensor) -> Tensor:
        """See `Generator.forward`: softplus(-D(G(z))), Goodfellow et al. 2014, section 3."""
        return F.softplus(-self.judge(self.images(*draw))).mean()

    def images(self, z: Tensor) -> Tensor:
        """[B, latent, 1, 1] -> [B, C, H, W]."""
        h = F.relu(self.norm_stem(self.stem(z)))
        h = F.relu(self.norm_middle(self.middle(h)))
        return self.out(h).tanh()

    def judge(self, images: Tensor) -> Tensor:
        """The discriminator's logits."""
        h = F.leaky_relu(F.conv2d(images, self.get_buffer("look_first"), None, 2, 1), 0.2)
        h = F.leaky_relu(F.conv2d(h, self.get_buffer("look_second"), None, 2, 1), 0.2)
        return F.conv2d(h, self.get_buffer("look_last"))

    def embed(self, images: Tensor) -> Tensor:
        """See `Generator.embed`: it looks at no support."""
        raise NotImplementedError

    def surprise(self, support: Examples) -> Tensor:
        """See `Generator.surprise`: it expects nothing."""
        raise NotImplementedError

    def restore(self, batch: Batch, hidden: Tensor) -> Tensor:
        """See `Generator.restore`: no pixels go in."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, support: Examples, count: int, seed: int) -> Tensor:
        """See `Generator.sample`."""
        z = torch.randn(count, self.latent, 1, 1, generator=torch.Generator().manual_seed(seed))
        return self.images(z)


NETWORKS: dict[str, Callable[[], Generator]] = {
    "unet": lambda: UNet(UNetConfig(), SIZE, CHANNELS),
    "dit": lambda: DiT(DiTConfig(width=104), SIZE, CHANNELS),
    "gan": ConvGAN,
}
