"""The adversarial objective: a generator and a discriminator that learn from each other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.func import grad
from typing_extensions import override

from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.generators.networks.adversarial import LATENT, AdversarialNetwork
from metatrain.generators.networks.network import Network
from metatrain.generators.objectives.augmentation import ALL, NUMBERS, Augmentation, augment
from metatrain.generators.objectives.flow import random_stream, visible_support
from metatrain.generators.objectives.objective import NOTHING, Draw, Objective, Term
from metatrain.generators.samplers import LatentSamplerConfig, truncated

# Numbers of the terms.
GENERATOR, DISCRIMINATOR = 0, 1


class AdversarialConfig(Section):
    """The game of a generator and a discriminator."""

    name: Literal["adversarial"] = "adversarial"
    loss: Literal["wgan-gp", "hinge", "non-saturating"] = Field(
        default="non-saturating", description="The losses of both players."
    )
    d_steps: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Updates of the discriminator before each of the generator, in an inner step.",
    )
    penalty: float | None = Field(
        default=None,
        ge=0,
        description="Weight of the gradient penalty; null: 10 (wgan-gp), 1 (hinge, R1) or 0.",
    )
    augment: tuple[Augmentation, ...] | None = Field(
        default=None,
        description="Augmentations before the discriminator; null: all (non-saturating) or none.",
    )
    restoration: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the restoration error, where the discriminator restores images.",
    )
    sampler: LatentSamplerConfig = LatentSamplerConfig()

    @property
    def penalty_weight(self) -> float:
        """The weight of the gradient penalty."""
        usual = {"wgan-gp": 10.0, "hinge": 1.0, "non-saturating": 0.0}
        return usual[self.loss] if self.penalty is None else self.penalty

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """The augmentations of what the discriminator sees."""
        if self.augment is not None:
            return self.augment
        return ALL if self.loss == "non-saturating" else ()


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


class PlayerLosses(NamedTuple):
    """A kind of game: functions of logits to losses, elementwise."""

    of_real: Callable[[Tensor], Tensor]
    of_fake: Callable[[Tensor], Tensor]
    of_generator: Callable[[Tensor], Tensor]


LOSSES = {
    # Gulrajani et al. 2017, eq. 3.
    "wgan-gp": PlayerLosses(torch.neg, lambda d: d, torch.neg),
    # Lim and Ye 2017, eq. 16 to 18; Miyato et al. 2018, eq. 16 and 17.
    "hinge": PlayerLosses(lambda d: F.relu(1 - d), lambda d: F.relu(1 + d), torch.neg),
    # Goodfellow et al. 2014, eq. 1, with the generator's loss of section 3.
    "non-saturating": PlayerLosses(lambda d: F.softplus(-d), F.softplus, lambda d: F.softplus(-d)),
}


class Adversarial(Objective[AdversarialConfig]):
    """A game of two terms, each player's own; in an inner step the discriminator moves first.

    Both players learn: the discriminator adapts to the task with the generator, and is dropped
    from the model that results. A draw is a `GameDraw`. Every loss is a mean over examples that
    are judged one by one.
    """

    Config = AdversarialConfig
    trains = AdversarialNetwork
    needs = "a generator with a discriminator, such as generator.name=resnet_gan"

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (
            Term(self.generator_loss, moves=AdversarialNetwork.GENERATOR),
            Term(self.discriminator_loss, moves=AdversarialNetwork.DISCRIMINATOR),
        )

    @property
    @override
    def updates(self) -> Sequence[tuple[int, ...]]:
        return (*((DISCRIMINATOR,),) * self.config.d_steps, (GENERATOR,))

    @override
    @classmethod
    def differentiates(cls, config: Any) -> bool:
        return config.penalty_weight > 0

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

    def generator_loss(self, network: AdversarialNetwork, *tensors: Tensor) -> Tensor:
        """Compute the generator's loss on a draw, a scalar."""
        draw = GameDraw(*tensors)
        condition = network.condition(draw.support, draw.visible)
        fake = self._augmented(network.generate(draw.latents, condition), draw.of_fake)
        return self._losses.of_generator(network.discriminate(fake, condition).logits).mean()

    def discriminator_loss(self, network: AdversarialNetwork, *tensors: Tensor) -> Tensor:
        """Compute the discriminator's loss on a draw, a scalar."""
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
        weight = self.config.penalty_weight
        if self.config.loss != "wgan-gp":
            return weight / 2 * _squared_slope(network, real, condition).mean()
        between = torch.lerp(fake, real, mixing[:, None, None, None])
        # The root has no derivative at 0.
        length = (_squared_slope(network, between, condition) + 1e-12).sqrt()
        return weight * (length - 1).square().mean()


def _squared_slope(network: AdversarialNetwork, images: Tensor, condition: Tensor) -> Tensor:
    """Compute the squared gradient of each image's mean logit in its values, [B]."""

    def logits(images: Tensor) -> Tensor:
        return network.discriminate(images, condition).logits.mean(dim=1).sum()

    return grad(logits)(images).square().sum(dim=(1, 2, 3))
