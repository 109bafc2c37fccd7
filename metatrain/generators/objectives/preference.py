"""Direct preference: the loss of Diffusion-DPO, and the objective of meta-training on raters.

Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference Optimization", eq. 14: the
expectation over pairs, times and noise is outside of the log-sigmoid, and the winner, the loser and
the reference see the same time and the same noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.data.rated import LOSER, SHOTS
from metatrain.generators.networks.layers import fixed_beside_adapters, without_adapters
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.flow import FlowMatching
from metatrain.generators.objectives.objective import (
    NOTHING,
    Draw,
    ErrorsByExample,
    Objective,
    Term,
)
from metatrain.generators.objectives.sections import FlowConfig, PreferenceConfig


class Errors(NamedTuple):
    """The error of each winner and of each loser, [B]: a mean over the values of an image."""

    winners: Tensor
    losers: Tensor


def margins(errors: Errors, reference: Errors) -> Tensor:
    """Compute by how much more than the reference each winner is preferred to its loser, [B].

    Times beta / 2 it is the argument of the sigmoid in eq. 14. The norms there are sums over
    values; here they are means, and the number of values is part of beta, as T and the weighting
    are, for which published values of beta stand.
    """
    gain = reference.winners - errors.winners
    return gain - (reference.losers - errors.losers)


def preference_loss(margins: Tensor, beta: float) -> Tensor:
    """Compute -log sigmoid(beta / 2 margin) of each pair, [B]; the mean of these is the loss."""
    return F.softplus(-0.5 * beta * margins)


class ByExample(nn.Module):
    """The errors of an objective as a module, in which `functional_call` changes the weights.

    Args:
        objective: has an error of each example.
        network: the network; its weights are named as in a generator.
    """

    def __init__(self, objective: ErrorsByExample, network: Network) -> None:
        super().__init__()
        self.objective, self.network = objective, network

    @override
    def forward(self, *draw: Tensor) -> Tensor:
        return self.objective.errors(self.network, draw)


class Preference(Objective[PreferenceConfig]):
    """Diffusion-DPO on the loss of flow matching; the reference is the model without its adapters.

    An example's target is the image that was chosen, its condition `loser` the one that was not,
    and `shots` [K, C, H, W] what both were conditioned on, alike for all examples of a batch. Only
    adapters, the low-rank terms of the scope `lora`, have a gradient.

    A draw is the winners [B, C, H, W], the losers, and of both alike the noise, the times [B], the
    shots [K, C, H, W] and `visible` [B, K].
    """

    Config = PreferenceConfig
    trains = VelocityNetwork
    needs = "a generator that predicts a velocity"
    images = (LOSER, SHOTS)

    def __init__(self, config: PreferenceConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self._flow = FlowMatching(FlowConfig(sampler=config.sampler), shape)

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (Term(self._loss),)

    @override
    def check(self, network: Network) -> None:
        super().check(network)
        if isinstance(network, VelocityNetwork) and network.encoders:
            raise UserError(
                "objective.name=preference knows no conditions beside the support; leave "
                "generator.conditions out."
            )

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        losers, shots = _given(batch.examples, LOSER), _given(batch.examples, SHOTS)
        # Alike for winners and losers: noise and times depend on the seed and the count alone.
        # Nothing of the support is dropped, since no drawing was made without it.
        [winners, *rest], [losers, *_] = (
            self._flow.prepare(_conditioned(batch, images, shots[0]), training=False)
            for images in (batch.examples.target, losers)
        )
        return winners, losers, *rest

    @override
    def share(self, draw: Draw, rows: slice) -> Draw:
        winners, losers, *rest = draw
        winners, *rest_of_share = self._flow.share((winners, *rest), rows)
        return winners, losers[rows], *rest_of_share

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
        """Sample from the shots that the support's drawings were conditioned on."""
        shots = Examples(_given(support, SHOTS)[0], encoded=True)
        return self._flow.sample(network, shots, count, seed, sampler)

    def _loss(
        self, network: VelocityNetwork, winners: Tensor, losers: Tensor, *rest: Tensor
    ) -> Tensor:
        """Compute the mean loss of the pairs, a scalar."""
        fixed = {f"network.{name}": p for name, p in fixed_beside_adapters(network).items()}
        by_example = ByExample(self._flow, network)

        def errors() -> Errors:
            draws = ((images, *rest) for images in (winners, losers))
            return Errors(*(functional_call(by_example, fixed, draw) for draw in draws))

        with torch.no_grad(), without_adapters(network):
            reference = errors()
        return preference_loss(margins(errors(), reference), self.config.beta).mean()


def _conditioned(batch: Batch, images: Tensor, shots: Tensor) -> Batch:
    """Return a batch of drawings, which see all the shots."""
    index = torch.full((len(images),), -1, device=images.device)
    support = Examples(shots, encoded=True)
    return replace(
        batch, examples=Examples(images, encoded=True), support=support, support_index=index
    )


def _given(examples: Examples, name: str) -> Tensor:
    images = examples.given.get(name)
    if not isinstance(images, Tensor):
        raise UserError(
            f"objective.name=preference needs the condition '{name}' of every example; train on "
            f"data.tasks.name=preferences, and give the model to metatrain prefer --start."
        )
    return images
