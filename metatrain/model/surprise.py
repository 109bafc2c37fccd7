"""Surprise: the log-loss of a flow on a support at fixed noise levels, for calibration."""

import torch
from torch import Tensor

from metatrain.data.examples import Examples
from metatrain.generators import Generator
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.flow import random_stream

# Times from noise to image at which a support is evaluated, and noises at each.
TIMES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
NOISES = 2


@torch.no_grad()
def surprise(generator: Generator, support: Examples) -> Tensor:
    """Compute the calibration features [P] of `support`; P is 0 without a velocity network.

    They are the log of the loss at each of a few times, each example conditioned on the others,
    and the spread of the losses over examples. Apart by time, since an example may be unusual in
    its outline or in its strokes; the spread is large where examples do not belong together.
    Deterministic; comparable only for equal K.
    """
    network = generator.network
    if not isinstance(network, VelocityNetwork):
        return torch.empty(0)
    latents, count = generator.latents(support).target, len(support)
    targets = latents.repeat(NOISES, 1, 1, 1)
    noise = torch.randn(targets.shape, generator=random_stream(0)).to(targets)
    memory = network.encode(latents)
    visible = ~torch.eye(count, dtype=torch.bool, device=latents.device)
    visible = visible.repeat(NOISES, 1)
    losses = []
    for time in TIMES:
        x, t = (1 - time) * noise + time * targets, targets.new_full((len(targets),), time)
        error = network.velocity(x, t, memory, visible) - (targets - noise)
        losses.append(error.square().mean(dim=(1, 2, 3)))
    by_example = torch.stack(losses)
    means = by_example.mean(dim=0).view(NOISES, count).mean(dim=0)
    spread = means.log().std(correction=0)
    return torch.cat([by_example.mean(dim=1).log(), spread[None]])
