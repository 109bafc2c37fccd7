"""Adapted models with random parameters, whose velocities are not 0."""

import torch

from metatrain.config import load_config
from metatrain.data.examples import Examples
from metatrain.model.build import build_theta
from metatrain.model.model import Model

UNET = ("generator.width=8", "objective.sampler.steps=3")
GAN = ("generator.name=resnet_gan", "objective.name=adversarial")


def adapted_model(*overrides, shots=3):
    """Return a model that says that it has adapted to noise."""
    small = () if any("generator.name" in o for o in overrides) else UNET
    config = load_config(None, [*small, "data.image_size=16", "data.path=elsewhere", *overrides])
    stream = torch.Generator().manual_seed(1)
    parameters = {
        name: p.detach() + 0.1 * torch.randn(p.shape, generator=stream)
        for name, p in build_theta(config).named().items()
    }
    shape = (config.data.channels, config.data.image_size, config.data.image_size)
    support = Examples(torch.rand(shots, *shape, generator=stream) * 2 - 1)
    return Model(config, parameters, 1, support=support if shots else None)
