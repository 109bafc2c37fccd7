"""Flows whose network predicts the mean velocity over an interval, to sample in few steps."""

from typing import TypeVar

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.generators.conditions.encoders import Given
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.flow import FlowMatching
from metatrain.generators.objectives.sections import MeanVelocityConfig
from metatrain.generators.sampler_sections import FlowSamplerConfig

M = TypeVar("M", bound=MeanVelocityConfig)


class MeanVelocity(FlowMatching[M]):
    """A flow whose network predicts u(x_t, t, r), the mean velocity from t to r = t + span.

    u(x_t, t, r) = 1 / (r - t) * (integral from t to r of v(x_s, s) ds): a step of that length is
    exact. Without an interval the network predicts the velocity v, as any flow's.
    """

    needs = "a generator that predicts a velocity, and has an embedding"

    @override
    def install(self, network: Network) -> None:
        assert isinstance(network, VelocityNetwork)
        network.predict_means()

    @override
    def paced(
        self,
        network: VelocityNetwork,
        given: Given | None,
        memory: Tensor,
        times: Tensor,
        config: FlowSamplerConfig,
    ) -> Given | None:
        return network.over(torch.full_like(times, 1 / config.steps), memory, given)


def column(values: Tensor) -> Tensor:
    """Shape values [B] as [B, 1, 1, 1]."""
    return values[:, None, None, None]
