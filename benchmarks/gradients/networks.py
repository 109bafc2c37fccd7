"""The generators that are measured, with about 0.9 million parameters, for 28 x 28 grey images."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.generators import NOTHING, Draw, Generator, Network, Objective, Term
from metatrain.generators.codecs.codec import Identity
from metatrain.generators.codecs.sections import IdentityConfig
from metatrain.generators.networks.dit import DiT
from metatrain.generators.networks.layers import group_norm
from metatrain.generators.networks.sections import DiTConfig, NetworkConfig, UNetConfig
from metatrain.generators.networks.unet import UNet
from metatrain.generators.objectives.flow import FlowMatching, random_stream
from metatrain.generators.objectives.sections import FlowConfig, ObjectiveConfig

SHAPE = CHANNELS, SIZE, _ = 1, 28, 28


class Discriminator(nn.Module):
    """A random convolutional discriminator; its weights are buffers, and so frozen."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.register_buffer("first", _random_weight(narrow, CHANNELS, 4))
        self.register_buffer("second", _random_weight(wide, narrow, 4))
        self.register_buffer("last", _random_weight(1, wide, SIZE // 4))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits [B, 1, 1, 1] of `images` [B, C, H, W]."""
        h = F.leaky_relu(F.conv2d(images, self.get_buffer("first"), None, 2, 1), 0.2)
        h = F.leaky_relu(F.conv2d(h, self.get_buffer("second"), None, 2, 1), 0.2)
        return F.conv2d(h, self.get_buffer("last"))


class ConvGAN(Network):
    """The generator of a DCGAN (Radford et al. 2016), with a frozen discriminator.

    It has GroupNorm in place of BatchNorm, whose statistics would carry one task into the next.
    """

    Config = NetworkConfig
    head = ("out",)
    latent, width = 64, 64

    def __init__(self) -> None:
        super().__init__(NetworkConfig(), SHAPE)
        wide, narrow = 3 * self.width, self.width
        self.stem = nn.ConvTranspose2d(self.latent, wide, SIZE // 4)
        self.middle = nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)
        self.out = nn.ConvTranspose2d(narrow, CHANNELS, 4, stride=2, padding=1)
        self.norm_stem, self.norm_middle = group_norm(wide), group_norm(narrow)
        self.discriminator = Discriminator(narrow, wide)

    def forward(self, z: Tensor) -> Tensor:
        """Map latent vectors [B, latent, 1, 1] to images [B, C, H, W]."""
        h = F.relu(self.norm_stem(self.stem(z)))
        h = F.relu(self.norm_middle(self.middle(h)))
        return self.out(h).tanh()


class NonSaturating(Objective[ObjectiveConfig]):
    """The generator's loss against the discriminator (Goodfellow et al. 2014, section 3).

    A draw is one latent vector per example, [B, latent, 1, 1].
    """

    Config = ObjectiveConfig
    trains = ConvGAN

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (Term(non_saturating_loss),)

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        stream = random_stream(batch.seed, batch.noise_index)
        return (_latents(len(batch.examples), stream).to(batch.examples.target),)

    @override
    def sample(
        self,
        network: Network,
        support: Examples,
        count: int,
        seed: int,
        sampler: Section | None,
        given: Mapping[str, Tensor] = NOTHING,
    ) -> Tensor:
        return network(_latents(count, random_stream(seed)).to(support.target))


def non_saturating_loss(network: ConvGAN, z: Tensor) -> Tensor:
    """Compute softplus(-D(G(z))), averaged over the batch, a scalar."""
    return F.softplus(-network.discriminator(network(z))).mean()


def _latents(count: int, stream: torch.Generator) -> Tensor:
    return torch.randn(count, ConvGAN.latent, 1, 1, generator=stream)


def _random_weight(channels: int, channels_in: int, side: int) -> Tensor:
    fan_in = channels_in * side**2
    return torch.randn(channels, channels_in, side, side) * (2 / fan_in) ** 0.5


def _generator(network: Network, objective: Objective) -> Generator:
    return Generator(network, objective, Identity(IdentityConfig()))


def _flow(network: Network) -> Generator:
    return _generator(network, FlowMatching(FlowConfig(), SHAPE))


# By name, functions that make a generator with new random weights.
NETWORKS: dict[str, Callable[[], Generator]] = {
    "unet": lambda: _flow(UNet(UNetConfig(), SHAPE)),
    "dit": lambda: _flow(DiT(DiTConfig(width=104), SHAPE)),
    "gan": lambda: _generator(ConvGAN(), NonSaturating(ObjectiveConfig(), SHAPE)),
}
