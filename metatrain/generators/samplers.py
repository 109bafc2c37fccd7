"""Samplers: plain functions from noise to examples, or to the latents of a one-pass generator."""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from metatrain.base.progress import report_share
from metatrain.base.section import Section

# The velocity at a state [B, C, H, W] and a time in [0, 1].
Velocity = Callable[[Tensor, float], Tensor]


class FlowSamplerConfig(Section):
    """The integration of a flow from noise to examples."""

    method: Literal["euler", "heun"] = Field(
        default="heun",
        description="euler: one network call per step; heun: two, and needs far fewer steps.",
    )
    steps: int = Field(default=6, ge=1, le=1000, description="Steps from noise to image.")
    guidance: float = Field(
        default=1.0, ge=0, description="Classifier-free guidance towards the support; 1 is none."
    )


def integrate(velocity: Velocity, noise: Tensor, config: FlowSamplerConfig) -> Tensor:
    """Integrate dx/dt = v(x, t) from `noise` at t = 0 to t = 1.

    The last step is Euler's with either method, since t = 1 is the end of the flow.
    """
    x, step = noise, 1.0 / config.steps
    for i in range(config.steps):
        slope = velocity(x, i * step)
        if config.method == "heun" and i + 1 < config.steps:
            ahead = velocity(x + step * slope, (i + 1) * step)
            slope = (slope + ahead) / 2
        x = x + step * slope
        report_share((i + 1) / config.steps)
    return x


def guided(conditional: Velocity, unconditional: Velocity, guidance: float) -> Velocity:
    """Combine as v_u + w (v_c - v_u): Ho and Salimans 2022, eq. 6 with w + 1 written as w."""
    if guidance == 1.0:
        return conditional

    def velocity(x: Tensor, time: float) -> Tensor:
        towards, free = conditional(x, time), unconditional(x, time)
        return free + guidance * (towards - free)

    return velocity


class LatentSamplerConfig(Section):
    """Latents of a generator of one pass."""

    truncation: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="Largest size of a latent; less is more alike and better; null: any.",
    )


def truncated(latents: Tensor, config: LatentSamplerConfig) -> Tensor:
    """Map normal latents to truncated normal ones (Brock et al. 2019, section 3.1).

    Each number keeps its quantile, so that a latent changes little where it was small already.
    """
    if config.truncation is None:
        return latents
    bound = torch.tensor(config.truncation, dtype=torch.float64)
    quantiles = torch.erf(bound / 2**0.5) * torch.erf(latents.double() / 2**0.5)
    return (2**0.5 * torch.erfinv(quantiles)).to(latents)
