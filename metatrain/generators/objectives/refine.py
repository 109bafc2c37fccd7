"""Refinement: a game in which simulated images come to look real, and stay what they are."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.data.simulated import REPLAYED, SIMULATED
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.refiner import RefiningNetwork
from metatrain.generators.objectives.flow import random_stream
from metatrain.generators.objectives.game import LOSSES, Game, squared_slope
from metatrain.generators.objectives.objective import NOTHING, Draw
from metatrain.generators.objectives.sections import RefineConfig

# Of logits that are higher for real images, these are SimGAN's of probabilities D to be refined.
_LOSSES = LOSSES["non-saturating"]


class RefineDraw(NamedTuple):
    """The tensors of a draw.

    Attributes:
        real: unlabelled images of the target domain, [B, C, H, W].
        simulated: images to refine, [B, C, H, W], which have nothing to do with the real ones.
        replayed: images that were refined before, [B, C, H, W].
        is_replayed: [B], True where the discriminator sees the replayed image in place of the
            refined one.
    """

    real: Tensor
    simulated: Tensor
    replayed: Tensor
    is_replayed: Tensor


class Refine(Game[RefineConfig]):
    """SimGAN's game (Shrivastava et al. 2017), of the refiner R and the discriminator D.

    Eq. 1, 3 and 4: L_R = -log(1 - D(R(x))) + lambda |psi(R(x)) - psi(x)|_1.
    Eq. 2: L_D = -log D(x~) - log(1 - D(y)), x~ refined and y real.

    D is the probability that a place was refined, and every loss is a mean over places, examples
    and values. Half of what the discriminator takes for refined was refined in earlier outer steps
    (section 2.3), where an example has such images. A draw is a `RefineDraw`.
    """

    Config = RefineConfig
    trains = RefiningNetwork
    needs = "a generator that refines, such as generator.name=refiner"

    @override
    def replayable(self, network: Network, examples: Examples) -> Tensor:
        assert isinstance(network, RefiningNetwork)
        return network.refine(_simulated(examples)[:, 0])

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        real, simulated = batch.examples.target, _simulated(batch.examples)
        count, variants = simulated.shape[:2]
        stream = random_stream(batch.seed, batch.noise_index)
        chosen = torch.randint(variants, (2, count), generator=stream)
        is_replayed = torch.randperm(count, generator=stream) < count // 2
        rows = torch.arange(count)
        replayed = batch.examples.given.get(REPLAYED)
        if not isinstance(replayed, Tensor):
            replayed, is_replayed = simulated, torch.zeros(count, dtype=torch.bool)
        return RefineDraw(
            real=real,
            simulated=simulated[rows, chosen[0]],
            replayed=replayed[rows, chosen[1]],
            is_replayed=is_replayed.to(real.device),
        )

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
        """Refine the simulated images of the support, one after the other and again from 0."""
        assert isinstance(network, RefiningNetwork)
        simulated = _simulated(support).transpose(0, 1).flatten(0, 1)
        return network.refine(simulated[[i % len(simulated) for i in range(count)]])

    @override
    def generator_loss(self, network: RefiningNetwork, *tensors: Tensor) -> Tensor:
        draw, features = RefineDraw(*tensors), FEATURES[self.config.features]
        refined = network.refine(draw.simulated)
        change = (features(refined) - features(draw.simulated)).abs().mean()
        return _LOSSES.of_generator(network.judge(refined)).mean() + self.config.weight * change

    @override
    def discriminator_loss(self, network: RefiningNetwork, *tensors: Tensor) -> Tensor:
        draw, penalty = RefineDraw(*tensors), self.config.penalty
        # Not detached: second order goes back through what the refiner makes.
        refined = network.refine(draw.simulated)
        fake = torch.where(draw.is_replayed[:, None, None, None], draw.replayed, refined)
        loss = _LOSSES.of_real(network.judge(draw.real)).mean()
        loss = loss + _LOSSES.of_fake(network.judge(fake)).mean()
        if penalty:
            loss = loss + penalty / 2 * squared_slope(network.judge, draw.real).mean()
        return loss


def _edges(images: Tensor) -> Tensor:
    """Compute the differences of values to those on the right and below, [B, 2 C, H-1, W-1]."""
    corner = images[..., :-1, :-1]
    return torch.cat([images[..., :-1, 1:] - corner, images[..., 1:, :-1] - corner], dim=1)


# The functions psi of the self-regularisation.
FEATURES: Mapping[str, Callable[[Tensor], Tensor]] = {"pixels": lambda x: x, "edges": _edges}


def _simulated(examples: Examples) -> Tensor:
    simulated = examples.given.get(SIMULATED)
    if not isinstance(simulated, Tensor):
        raise UserError(
            f"objective.name=refine needs the condition '{SIMULATED}' of every example; train on "
            f"data.tasks.name=domains, and adapt by Model.refine."
        )
    return simulated
