"""Distillation: the objective of a student that draws in few steps what its teacher draws."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.data.batch import Batch
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.flow import random_stream
from metatrain.generators.objectives.mean_velocity import MeanVelocity, column
from metatrain.generators.objectives.objective import Draw, Term
from metatrain.generators.objectives.sections import DistillConfig

# Tells the random stream of intervals from that of the flow's noise.
_INTERVALS = 2


class Distill(MeanVelocity[DistillConfig]):
    """A student of an adapted teacher; its network predicts mean velocities.

    Where targets of a batch are trajectories of the teacher [B, n + 1, C, H, W], its states at the
    times 0, 1/n, ..., 1, the student learns their mean velocities n (x_(i+1)/n - x_i/n): what a
    step of progressive distillation learns (Salimans and Ho 2022, "Progressive Distillation for
    Fast Sampling of Diffusion Models", algorithm 2), of all the teacher's steps in between at once.
    With `path` straight it learns x_1 - x_0 at the times i/n between them: Liu et al. 2023, "Flow
    Straight and Fast", section 2.2, for n steps.

    Where they are images, as those of a support are, it learns the velocity, as any flow does. So
    adapting follows the velocity, and sampling the means.

    A draw is states [B, C, H, W], slopes of that shape, times [B], spans [B], the support
    [K, C, H, W], `visible` [B, K], and then each condition [B, ...] of the network's encoders.
    """

    Config = DistillConfig

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (Term(slope_error),)

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        trajectories = batch.examples.target
        taught = trajectories.ndim == 5
        if taught:
            batch = replace(batch, examples=replace(batch.examples, target=trajectories[:, -1]))
        x1, x0, t, *rest = super().prepare(batch, training=training)
        x, slope, span = (1 - column(t)) * x0 + column(t) * x1, x1 - x0, torch.zeros_like(t)
        if taught:
            stream = random_stream(batch.seed, batch.noise_index, _INTERVALS)
            x, slope, t, span = self._lessons(trajectories, (x, slope, t, span), stream)
        return x, slope, t, span, *rest

    def _lessons(
        self,
        trajectories: Tensor,
        velocities: tuple[Tensor, Tensor, Tensor, Tensor],
        stream: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose an interval of each trajectory; some teach the velocity in its place."""
        x, slope, t, span = velocities
        count, steps = len(trajectories), trajectories.shape[1] - 1
        order = torch.randperm(count, generator=stream).to(t.device)
        # Each interval equally often, whichever trajectories teach the velocity.
        index, rows = order % steps, torch.arange(count, device=t.device)
        places = torch.randperm(count, generator=stream).to(t)
        is_mean = places >= self.config.velocity * count
        start, end = trajectories[rows, index], trajectories[rows, index + 1]
        times = index.to(t) / steps
        if self.config.path == "straight":
            noise, image = trajectories[:, 0], trajectories[:, -1]
            chord = image - noise
            start = noise + column(times) * chord
        else:
            chord = steps * (end - start)
        means = start, chord, times, torch.full_like(span, 1 / steps)
        kinds = (column(is_mean), column(is_mean), is_mean, is_mean)
        x, slope, t, span = (
            torch.where(kind, mean, velocity)
            for kind, mean, velocity in zip(kinds, means, (x, slope, t, span), strict=True)
        )
        return x, slope, t, span

    @override
    def share(self, draw: Draw, rows: slice) -> Draw:
        x, slope, t, span, support, *of_examples = draw
        parts = (part[rows] for part in of_examples)
        return x[rows], slope[rows], t[rows], span[rows], support, *parts

    @override
    def errors(self, network: Network, draw: Draw) -> Tensor:
        return _squares(network, *draw).mean(dim=(1, 2, 3))


def slope_error(network: Network, *draw: Tensor) -> Tensor:
    """Compute the mean over the batch of |u(x, t, t + span) - slope|^2 per value, a scalar."""
    return _squares(network, *draw).mean()


def _squares(
    network: Network,
    x: Tensor,
    slope: Tensor,
    t: Tensor,
    span: Tensor,
    support: Tensor,
    visible: Tensor,
    *given: Tensor,
) -> Tensor:
    assert isinstance(network, VelocityNetwork)
    memory = network.encode(support)
    over = network.over(span, memory, network.encode_given(given))
    return (network.velocity(x, t, memory, visible, over) - slope).square()
