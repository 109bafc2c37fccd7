"""Games: objectives of two terms, a generator's and a discriminator's, that answer each other."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad
from typing_extensions import override

from metatrain.generators.networks.adversarial import Players
from metatrain.generators.objectives.objective import Objective, Term
from metatrain.generators.objectives.sections import GameConfig

# Numbers of the terms.
GENERATOR, DISCRIMINATOR = 0, 1


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


C = TypeVar("C", bound=GameConfig)


class Game(Objective[C]):
    """A game of two terms, each player's own; in an inner step the discriminator moves first.

    Both players learn: the discriminator adapts to the task with the generator, and is dropped
    from the model that results. Every loss is a mean over examples that are judged one by one.
    """

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (
            Term(self.generator_loss, moves=Players.GENERATOR),
            Term(self.discriminator_loss, moves=Players.DISCRIMINATOR),
        )

    @property
    @override
    def updates(self) -> Sequence[tuple[int, ...]]:
        return (*((DISCRIMINATOR,),) * self.config.d_steps, (GENERATOR,))

    @abstractmethod
    def generator_loss(self, network: Any, *tensors: Tensor) -> Tensor:
        """Compute the generator's loss on a draw, a scalar."""

    @abstractmethod
    def discriminator_loss(self, network: Any, *tensors: Tensor) -> Tensor:
        """Compute the discriminator's loss on a draw, a scalar."""


def squared_slope(logits: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Compute the squared gradient of each image's mean logit in its values, [B].

    Args:
        logits: maps images [B, C, H, W] to [B, P], each image by itself.
        images: where to take the gradient.
    """
    slope = grad(lambda images: logits(images).mean(dim=1).sum())(images)
    return slope.square().sum(dim=(1, 2, 3))
