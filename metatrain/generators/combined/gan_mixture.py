"""A mixture of GANs: two players whose parameters are a point between models' players."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.generators.combined.mixture import Coefficients, add_task_vectors, with_task_vectors
from metatrain.generators.combined.sections import GANMixtureConfig
from metatrain.generators.networks.adversarial import AdversarialNetwork, Judgement
from metatrain.generators.networks.registry import NETWORKS

_PLAYERS = ("generator", "discriminator")


class GANMixture(AdversarialNetwork):
    """Players with task vectors added to their every parameter: theta_0 + sum_i alpha_i tau_i.

    Each player has coefficients alpha of its own, which its own loss moves. They are the head, so
    that the scope `head` moves 2 M numbers: the mixed generator learns from the mixed
    discriminator, on the support.

    Args:
        config: its players and their task vectors.
        shape: of an example as the network sees it, [C, H, W], H = W.

    Raises:
        UserError: when the mixed network is no GAN.
    """

    Config = GANMixtureConfig
    head = tuple(f"{player}.coefficients" for player in _PLAYERS)

    def __init__(self, config: GANMixtureConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        players = NETWORKS[config.of.name](config.of, shape)
        if not isinstance(players, AdversarialNetwork):
            raise UserError(
                f"generator.name=gan_mixture mixes GANs, and {config.of.name} is none; use "
                f"generator.name=mixture."
            )
        # In a tuple, or torch would count each of their parameters twice.
        self._players = (players,)
        self.generator, self.discriminator = players.generator, players.discriminator
        for player in (self.generator, self.discriminator):
            coefficients = Coefficients(config.vectors)
            add_task_vectors(player, coefficients)
            player.add_module("coefficients", coefficients)

    @staticmethod
    def parameters_of(start: Parameters, others: Sequence[Parameters]) -> Parameters:
        """Name the parameters of a mixture of `start` and its difference to each of `others`."""
        alphas = {f"{player}.coefficients.alpha": torch.zeros(len(others)) for player in _PLAYERS}
        return alphas | with_task_vectors(start, others)

    @override
    def generate(self, latents: Tensor, condition: Tensor) -> Tensor:
        return self._players[0].generate(latents, condition)

    @override
    def discriminate(self, images: Tensor, condition: Tensor) -> Judgement:
        return self._players[0].discriminate(images, condition)

    @override
    def restoration_error(
        self, images: Tensor, features: tuple[Tensor, ...], windows: Tensor
    ) -> Tensor | None:
        return self._players[0].restoration_error(images, features, windows)
