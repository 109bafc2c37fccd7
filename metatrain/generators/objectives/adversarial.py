"""The adversarial objective: a generator and a discriminator that learn from each other."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.generators.networks.adversarial import LATENT, AdversarialNetwork
from metatrain.generators.networks.network import Network
from metatrain.generators.objectives.augmentation import NUMBERS, augment
from metatrain.generators.objectives.flow import random_stream, visible_support
from metatrain.generators.objectives.game import (
    LOSSES,
    Game,
    PlayerLosses,
    squared_slope,
)
from metatrain.generators.objectives.objective import NOTHING, Draw
from metatrain.generators.objectives.sections import AdversarialConfig
from metatrain.generators.sampler_sections import LatentSamplerConfig
from metatrain.generators.samplers import truncated


class GameDraw(NamedTuple):
    """The tensors of a draw.

    Attributes:
        real: examples, [B, C, H, W].
        latents: of as many samples, [B, LATENT].
        mixing: where between a real image and a sample the penalty is taken, [B] in [0, 1).
        of_real: numbers of the real images' augmentation, [B, NUMBERS].
        of_fake: numbers of the samples' augmentation, [B, NUMBERS].
        windows: the part of each real image to restore, [B] in [0, 1).
        support: [K, C, H, W].
        visible: [B, K], True where an example, or the sample beside it, may see a support image.
    """

    real: Tensor
    latents: Tensor
    mixing: Tensor
    of_real: Tensor
    of_fake: Tensor
    windows: Tensor
    support: Tensor
    visible: Tensor


class Adversarial(Game[AdversarialConfig]):
    """A game in which samples are made from noise. A draw is a `GameDraw`."""

    Config = AdversarialConfig
    trains = AdversarialNetwork
    needs = "a generator with a discriminator, such as generator.name=resnet_gan"

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        real, count = batch.examples.target, len(batch.examples)
        stream = random_stream(batch.seed, batch.noise_index)
        latents = torch.randn(count, LATENT, generator=stream)
        uniform = torch.rand(count, 2 + 2 * NUMBERS, generator=stream)
        of_real, of_fake, rest = uniform.to(real).split([NUMBERS, NUMBERS, 2], dim=1)
        return GameDraw(
            real=real,
            latents=latents.to(real),
            mixing=rest[:, 0],
            of_real=of_real,
            of_fake=of_fake,
            windows=rest[:, 1],
            support=batch.support.target,
            visible=visible_support(batch),
        )

    @override
    def share(self, draw: Draw, rows: slice) -> Draw:
        *by_example, support, visible = draw
        return (*(tensor[rows] for tensor in by_example), support, visible[rows])

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
        assert isinstance(network, AdversarialNetwork)
        config = sampler if isinstance(sampler, LatentSamplerConfig) else self.config.sampler
        latents = torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed))
        visible = torch.ones(count, len(support), dtype=torch.bool, device=support.target.device)
        condition = network.condition(support.target, visible)
        return network.generate(truncated(latents, config).to(support.target), condition)

    @override
    def generator_loss(self, network: AdversarialNetwork, *tensors: Tensor) -> Tensor:
        draw = GameDraw(*tensors)
        condition = network.condition(draw.support, draw.visible)
        fake = self._augmented(network.generate(draw.latents, condition), draw.of_fake)
        return self._losses.of_generator(network.discriminate(fake, condition).logits).mean()

    @override
    def discriminator_loss(self, network: AdversarialNetwork, *tensors: Tensor) -> Tensor:
        draw, config = GameDraw(*tensors), self.config
        condition = network.condition(draw.support, draw.visible)
        real = self._augmented(draw.real, draw.of_real)
        # Not detached: second order goes back through what the generator makes.
        fake = self._augmented(network.generate(draw.latents, condition), draw.of_fake)
        logits, features = network.discriminate(real, condition)
        loss = self._losses.of_real(logits).mean()
        loss = loss + self._losses.of_fake(network.discriminate(fake, condition).logits).mean()
        if config.penalty_weight:
            loss = loss + self._penalty(network, real, fake, condition, draw.mixing)
        error = network.restoration_error(real, features, draw.windows)
        return loss if error is None else loss + config.restoration * error

    @property
    def _losses(self) -> PlayerLosses:
        return LOSSES[self.config.loss]

    def _augmented(self, images: Tensor, numbers: Tensor) -> Tensor:
        return augment(images, numbers, self.config.augmentations)

    def _penalty(
        self,
        network: AdversarialNetwork,
        real: Tensor,
        fake: Tensor,
        condition: Tensor,
        mixing: Tensor,
    ) -> Tensor:
        """Compute the gradient penalty, a scalar.

        Gulrajani et al. 2017, eq. 3, of two sides and between both kinds of images for wgan-gp;
        R1 of Mescheder et al. 2018, eq. 9, on real images for the others.
        """

        def logits(images: Tensor) -> Tensor:
            return network.discriminate(images, condition).logits

        weight = self.config.penalty_weight
        if self.config.loss != "wgan-gp":
            return weight / 2 * squared_slope(logits, real).mean()
        between = torch.lerp(fake, real, mixing[:, None, None, None])
        # The root has no derivative at 0.
        length = (squared_slope(logits, between) + 1e-12).sqrt()
        return weight * (length - 1).square().mean()
