"""Samplers: plain functions from noise to examples, or to the latents of a one-pass generator."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from metatrain.base.progress import report_share
from metatrain.generators.sampler_sections import FlowSamplerConfig, LatentSamplerConfig

# The velocity at a state [B, C, H, W] and a time in [0, 1].
Velocity = Callable[[Tensor, float], Tensor]


def integrate(velocity: Velocity, noise: Tensor, config: FlowSamplerConfig) -> Tensor:
    """Integrate dx/dt = v(x, t) from `noise` at t = 0 to t = 1.

    The last step is Euler's with either method, since t = 1 is the end of the flow.
    """
    *_, x = states(velocity, noise, config)
    return x


def states(velocity: Velocity, noise: Tensor, config: FlowSamplerConfig) -> Iterator[Tensor]:
    """Integrate as `integrate` does, and yield the state after each step."""
    x, step = noise, 1.0 / config.steps
    for i in range(config.steps):
        slope = velocity(x, i * step)
        if config.method == "heun" and i + 1 < config.steps:
            ahead = velocity(x + step * slope, (i + 1) * step)
            slope = (slope + ahead) / 2
        x = x + step * slope
        report_share((i + 1) / config.steps)
        yield x


def guided(velocities: Sequence[Velocity], weights: Sequence[float]) -> Velocity:
    """Combine velocities under ever more conditions as v_0 + sum_i w_i (v_i - v_{i-1}).

    Brooks et al. 2023, "InstructPix2Pix", eq. 3; of one condition that is Ho and Salimans 2022,
    eq. 6 with w + 1 written as w. Velocities that cancel are not computed.

    Args:
        velocities: without any condition, and then with one more each.
        weights: the guidance towards each condition.
    """
    summands = [(1.0, velocities[0])]
    for weight, velocity in zip(weights, velocities[1:], strict=True):
        if weight == summands[-1][0]:
            summands.pop()
        summands.append((weight, velocity))
    if len(summands) > 1 and summands[-1][0] == 0.0:
        summands.pop()
    (_, first), *rest = summands

    def combined(x: Tensor, time: float) -> Tensor:
        before = total = first(x, time)
        for weight, velocity in rest:
            towards = velocity(x, time)
            total, before = total + weight * (towards - before), towards
        return total

    return combined


def truncated(latents: Tensor, config: LatentSamplerConfig) -> Tensor:
    """Map normal latents to truncated normal ones (Brock et al. 2019, section 3.1).

    Each number keeps its quantile, so that a latent changes little where it was small already.
    """
    if config.truncation is None:
        return latents
    bound = torch.tensor(config.truncation, dtype=torch.float64)
    quantiles = torch.erf(bound / 2**0.5) * torch.erf(latents.double() / 2**0.5)
    return (2**0.5 * torch.erfinv(quantiles)).to(latents)
