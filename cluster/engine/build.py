"""Engines and their learners from a configuration.

Set DS_ACCELERATOR before the import: DeepSpeed chooses its device then.
"""

import torch
from torch import nn

from cluster.engine.sharded_inner_loop import build_sharded_learner
from cluster.engine.zero import ZeroEngine
from cluster.engine.zero3 import GatheringEngine, ShardedEngine
from metatrain.config import Config
from metatrain.learning.inner.theta import Theta
from metatrain.learning.learners import Learner
from metatrain.model.build import build_learner, build_theta
from metatrain.training.initial_weights import initial_constants


def build_engine_and_learner(config: Config, device: torch.device) -> tuple[ZeroEngine, Learner]:
    """Build an engine, which needs a `begin` or a `load`, and a learner for it. Collective.

    Args:
        config: the run's configuration, with nothing left at `auto`.
        device: device of this worker.
    """
    if config.cluster.zero_stage < 3:
        engine = ZeroEngine(build_theta(config).to(device), config)
    elif config.cluster.inner_loop == "sharded":
        engine = ShardedEngine(_without_weights(config), config)
        return engine, build_sharded_learner(config, engine)
    else:
        engine = GatheringEngine(_without_weights(config), config)
    return engine, build_learner(config, build_theta(config).to(device))


def _without_weights(config: Config) -> Theta:
    """Build theta on the meta device, where only buffers and frozen parameters have values."""
    with torch.device("meta"):
        theta = build_theta(config)
    for name, tensor in initial_constants(config).items():
        owner, _, attribute = name.rpartition(".")
        module = theta.get_submodule(owner)
        if attribute in module._buffers:
            module._buffers[attribute] = tensor
        else:
            module._parameters[attribute] = nn.Parameter(tensor, requires_grad=False)
    return theta
