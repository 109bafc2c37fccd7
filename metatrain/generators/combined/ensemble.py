"""An ensemble: the velocities of several networks averaged, with weights that adapt."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.generators.combined.sections import EnsembleConfig
from metatrain.generators.conditions.encoders import Encoders, Given
from metatrain.generators.networks.registry import NETWORKS
from metatrain.generators.networks.velocity import VelocityNetwork


class Weights(nn.Module):
    """Positive weights that sum to 1, equal at first."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(members))

    def forward(self) -> Tensor:
        """Compute the softmax of the logits, [M]."""
        return self.logits.softmax(dim=0)


class Ensemble(VelocityNetwork):
    """A weighted mean of the velocities of M networks, v = sum_i w_i v_i.

    It averages velocities, not pixels: a mean of velocities is again the velocity of a flow, whose
    images are as sharp as the members', but a mean of images is blurred. Its head is the weights,
    so that the scope `head` moves M numbers and leaves the networks as they are.

    Args:
        config: its members.
        shape: of an example as the network sees it, [C, H, W], H = W.
    """

    Config = EnsembleConfig
    head = ("weights",)

    def __init__(self, config: EnsembleConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.weights = Weights(config.members)
        kind = NETWORKS[config.of.name]
        if not issubclass(kind, VelocityNetwork):
            raise UserError(
                f"generator.name=ensemble averages velocities, and {config.of.name} predicts none; "
                f"combine GANs by a mixture."
            )
        self.members = nn.ModuleList(kind(config.of, shape) for _ in range(config.members))

    @staticmethod
    def parameters_of(networks: Sequence[Parameters]) -> Parameters:
        """Name the parameters of an ensemble of `networks`, with equal weights."""
        members = {
            f"members.{i}.{n}": p for i, network in enumerate(networks) for n, p in network.items()
        }
        return {"weights.logits": torch.zeros(len(networks)), **members}

    @override
    def encode(self, support: Tensor) -> Tensor:
        """Stack the members' memories of the support [K, C, H, W] as [K, M, ...]."""
        return torch.stack([member.encode(support) for member in self._networks()], dim=1)

    @property
    @override
    def converters(self) -> Encoders | None:
        return self._networks()[0].converters

    @override
    def encode_given(self, conditions: Sequence[Tensor]) -> Given | None:
        """Stack what the members encode as [B, M, ...]."""
        given = [member.encode_given(conditions) for member in self._networks()]
        parts = [part for part in given if part is not None]
        return Given(*(torch.stack(p, dim=1) for p in zip(*parts, strict=True))) if parts else None

    @override
    def velocity(
        self, x: Tensor, t: Tensor, memory: Tensor, visible: Tensor, given: Given | None = None
    ) -> Tensor:
        velocities = [
            member.velocity(
                x, t, memory[:, i], visible, given and Given(*(part[:, i] for part in given))
            )
            for i, member in enumerate(self._networks())
        ]
        return torch.tensordot(self.weights(), torch.stack(velocities), dims=1)

    def _networks(self) -> list[VelocityNetwork]:
        return cast(list[VelocityNetwork], list(self.members))
