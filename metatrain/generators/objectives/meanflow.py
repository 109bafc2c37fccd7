"""MeanFlow: regress the mean velocity over intervals, from nothing."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from typing_extensions import override

from metatrain.data.batch import Batch
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.flow import random_stream
from metatrain.generators.objectives.mean_velocity import MeanVelocity, column
from metatrain.generators.objectives.objective import Draw, Term
from metatrain.generators.objectives.sections import MeanFlowConfig

# Tells the random stream of intervals from that of the flow's noise.
_INTERVALS = 2
# The constant c of the adaptive weight.
_LEAST_ERROR = 1e-3


class MeanFlow(MeanVelocity[MeanFlowConfig]):
    """MeanFlow (Geng et al. 2025, "Mean Flows for One-step Generative Modeling").

    Eq. 6, with noise at t = 0 and examples at t = 1 as everywhere here:
    u(x_t, t, r) = v(x_t, t) + (r - t) d/dt u(x_t, t, r).

    The network regresses the right side (eq. 9 to 11), a constant in which v is x_1 - x_0 and u the
    network itself; d/dt is along (dx, dt, d(r - t)) = (v, 1, -1). Errors have the adaptive weight
    of section 4.3.

    A draw is x_1 [B, C, H, W], x_0, the times [B], the spans r - t [B], the support [K, C, H, W],
    `visible` [B, K], and then each condition [B, ...] of the network's encoders.
    """

    Config = MeanFlowConfig

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (Term(self._loss),)

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        x1, x0, t, *rest = super().prepare(batch, training=training)
        stream, count = random_stream(batch.seed, batch.noise_index, _INTERVALS), len(t)
        other = torch.rand(count, generator=stream).to(t)
        # As many in every batch, to rounding at random: a support has only few images.
        places = (torch.randperm(count, generator=stream) + torch.rand(1, generator=stream)) / count
        is_interval = (places < self.config.intervals).to(t.device)
        start = torch.where(is_interval, torch.minimum(t, other), t)
        span = torch.where(is_interval, (t - other).abs(), torch.zeros_like(t))
        return x1, x0, start, span, *rest

    @override
    def share(self, draw: Draw, rows: slice) -> Draw:
        x1, x0, t, span, support, *of_examples = draw
        flow = super().share((x1, x0, t, support, *of_examples), rows)
        return *flow[:3], span[rows], *flow[3:]

    @override
    def errors(self, network: Network, draw: Draw) -> Tensor:
        assert isinstance(network, VelocityNetwork)
        x1, x0, t, span, support, visible, *given = draw
        memory, conditions = network.encode(support), network.encode_given(given)

        def mean_velocity(x: Tensor, t: Tensor, span: Tensor) -> Tensor:
            over = network.over(span, memory, conditions)
            return network.velocity(x, t, memory, visible, over)

        x = (1 - column(t)) * x0 + column(t) * x1
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no derivative forward
            mean, target = mean_velocity_and_target(mean_velocity, x, t, span, x1 - x0)
        errors = (mean - target).square().mean(dim=(1, 2, 3))
        return errors / (errors.detach() + _LEAST_ERROR) ** self.config.weighting

    def _loss(self, network: Network, *draw: Tensor) -> Tensor:
        return self.errors(network, draw).mean()


def mean_velocity_and_target(
    mean_velocity: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Tensor,
    t: Tensor,
    span: Tensor,
    velocity: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute u(x, t, t + span), and what eq. 6 says that it is, which is a constant.

    Args:
        mean_velocity: u, of a state [B, C, H, W], times [B] and spans [B].
        x: the state.
        t: the times.
        span: the spans.
        velocity: v at x and t, [B, C, H, W].
    """
    tangents = (velocity, torch.ones_like(t), -torch.ones_like(span))
    mean, slope, *_ = torch.func.jvp(mean_velocity, (x, t, span), tangents)
    return mean, (velocity + column(span) * slope).detach()
