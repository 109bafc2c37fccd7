"""Parts for metatrain from another package: a network, a game, a learner and a codec."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators import (
    NOTHING,
    Codec,
    Draw,
    Network,
    NetworkConfig,
    Objective,
    ObjectiveConfig,
    Term,
)
from metatrain.generators.frozen import FrozenWeights, load_frozen
from metatrain.learning.learners import LearnerConfig, OuterGradient, Reptile
from metatrain.learning.learners.learner import Memory


class PlayersConfig(NetworkConfig):
    """The two players; a frozen layer may stand between the picture and the critic."""

    name: Literal["players"] = "players"
    filter: FrozenWeights | None = Field(
        default=None, description="Weights of a frozen 3x3 convolution; null is none."
    )


class Players(Network):
    """A picture, and a critic that weighs the values by which it differs from the examples."""

    Config = PlayersConfig
    head = ("picture",)

    def __init__(self, config: PlayersConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.picture = nn.ParameterDict({"pixels": 0.1 * torch.randn(shape)})
        self.critic = nn.ParameterDict({"weights": 0.1 * torch.randn(shape)})
        # A buffer: kept with the model, and never trained.
        self.register_buffer("grain", torch.randn(shape))
        self.filter = nn.Conv2d(shape[0], shape[0], 3, padding=1, bias=False)
        if config.filter is None:
            del self.filter
            self.filter = nn.Identity()
        else:
            load_frozen(self.filter, config.filter)


class TugConfig(ObjectiveConfig):
    """The weight that holds the critic back."""

    name: Literal["tug"] = "tug"
    damping: float = Field(default=1.0, gt=0, description="Weight of the critic's square.")


class TugOfWar(Objective[TugConfig]):
    """A game of two terms: f = <critic, picture - mean of the examples> - damping |critic|^2 / 2.

    The picture descends f and the critic ascends it. Neither can do better where the picture is
    the mean and the critic is 0.
    """

    Config = TugConfig
    trains = Players
    needs = "generator.name=players"

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (
            Term(self._value, moves=("picture.",)),
            Term(lambda *draw: -self._value(*draw), moves=("critic.",)),
        )

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        return (batch.examples.target,)

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
        assert isinstance(network, Players)
        noise = torch.randn((count, 1, 1, 1), generator=torch.Generator().manual_seed(seed))
        texture = 0.1 * noise.to(support.target) * network.get_buffer("grain")
        return network.picture["pixels"] + texture

    def _value(self, network: Players, examples: Tensor) -> Tensor:
        picture, critic = network.picture["pixels"], network.critic["weights"]
        apart = network.filter((picture - examples.mean(dim=0))[None])[0]
        return (critic * apart).sum() - self.config.damping * critic.square().sum() / 2


class Halfway(Reptile):
    """Reptile with every task's step cut short.

    g = 1/M sum_i share (theta - phi_i), phi_i = U_k(theta; S_i + Q_i)

    Cost: k gradients an episode.
    Memory: one gradient's graph, and phi.
    Use: an example of a learner from another package.
    """

    class Config(LearnerConfig):
        """The share of the step."""

        mixes = True

        name: Literal["halfway"] = "halfway"
        share: float = Field(default=0.5, gt=0, le=1, description="Share of the step to take.")

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        outer = super().episode_gradient(theta, episode, step, memory)
        gradient = {name: self.config.share * g for name, g in outer.gradient.items()}
        return OuterGradient(gradient, outer.metrics)


class HalvedConfig(Section):
    """No settings."""

    name: Literal["halved"] = "halved"


class Halved(Codec):
    """Images at half their size."""

    Config = HalvedConfig

    @override
    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        return channels, size // 2, size // 2

    @override
    def encode(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 2)

    @override
    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(latents, scale_factor=2.0, mode="nearest")
