"""Autoencoding: images through a small code and back, the objective of a codec."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.data.pictures import on_white
from metatrain.generators.frozen import FrozenWeights, load_frozen
from metatrain.generators.networks.autoencoder import Autoencoder
from metatrain.generators.networks.metric_network import MetricNetwork
from metatrain.generators.networks.network import Network
from metatrain.generators.objectives.flow import random_stream
from metatrain.generators.objectives.objective import NOTHING, Draw, Objective, Term
from metatrain.generators.objectives.sections import AutoencodeConfig


class Autoencode(Objective[AutoencodeConfig]):
    """The mean absolute difference, a perceptual distance, and a light divergence per latent value.

    Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section
    3.1 and appendix G, without its discriminator:
    |D(z) - x| + w d(D(z), x) + b KL(q(z|x) | N(0, 1)) with z ~ q(z|x).

    A draw is the images [B, C, H, W], and noise of as many values, of which latents take the first.
    """

    Config = AutoencodeConfig
    trains = Autoencoder
    needs = "generator.name=autoencoder"

    @property
    @override
    def terms(self) -> Sequence[Term]:
        config = self.config
        features = config.features if config.perceptual else None
        loss = partial(
            autoencoding_loss, features=features, perceptual=config.perceptual, kl=config.kl
        )
        return (Term(loss),)

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        images = batch.examples.target
        noise = torch.randn(images.shape, generator=random_stream(batch.seed, batch.noise_index))
        return images, noise.to(images)

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
        """Reconstruct the images of the support, one after the other and again from the first."""
        assert isinstance(network, Autoencoder)
        rows = [i % len(support) for i in range(count)]
        return network.decode(network.encode(support.target))[rows]


def autoencoding_loss(
    network: Autoencoder,
    images: Tensor,
    noise: Tensor,
    *,
    features: FrozenWeights | None = None,
    perceptual: float = 0.0,
    kl: float = 0.0,
) -> Tensor:
    """Compute the loss of images [B, C, H, W] with the noise of their latents, a scalar.

    Args:
        network: encodes and decodes.
        images: in [-1, 1].
        noise: of at least as many values as the latents.
        features: file of the metric network.
        perceptual: weight of the distance in its features.
        kl: weight of the divergence.
    """
    mean, log_variance = network.distribution(images)
    noise = noise.flatten(1)[:, : mean[0].numel()].view_as(mean)
    decoded = network.decode(mean + noise * (log_variance / 2).exp())
    loss = (decoded - images).abs().mean()
    # Kingma and Welling 2014, appendix B, as a mean over values.
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
    loss = loss + kl * divergence
    if features is None:
        return loss
    judge = _judge(features.path, features.sha256, min(images.shape[1], 3), images.device)
    return loss + perceptual * perceptual_distance(judge, on_white(decoded), on_white(images))


def perceptual_distance(network: MetricNetwork, images: Tensor, others: Tensor) -> Tensor:
    """Compare images [B, C, H, W] in the layers of a network, a scalar.

    Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
    eq. 1 with all weights 1, as a mean over layers.
    """
    layers = zip(network.layers(images), network.layers(others), strict=True)
    distances = [(_unit(a) - _unit(b)).square().sum(dim=1).mean() for a, b in layers]
    return torch.stack(distances).mean()


def _unit(layer: Tensor) -> Tensor:
    return F.normalize(layer, dim=1, eps=1e-4)


@lru_cache(maxsize=2)
def _judge(path: str, sha256: str | None, channels: int, device: torch.device) -> MetricNetwork:
    network = MetricNetwork(channels)
    load_frozen(network, FrozenWeights(path=path, sha256=sha256))
    return network.to(device).eval()
