"""The optimiser of the outer loop, the same under every engine."""

import torch
from torch import nn

from metatrain.config import MetaConfig

# The moments that each kind keeps of every parameter, and its count of steps, by torch's names.
MOMENTS: dict[str, tuple[str, ...]] = {"adam": ("exp_avg", "exp_avg_sq"), "sgd": ()}
COUNT = "step"


def outer_optimizer(config: MetaConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the configured optimiser, whose rate an engine sets at every step.

    Torch's own in any case, since DeepSpeed's are compiled for minutes on a CPU.
    """
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=0.0)
    return torch.optim.Adam(parameters, lr=0.0, betas=(config.momentum, 0.999))
