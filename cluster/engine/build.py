"""From a configuration to an engine, and a learner that works with it.

To be imported where DS_ACCELERATOR says what a worker was given, since importing DeepSpeed decides.
"""

import torch

from cluster.engine.sharded_inner_loop import build_sharded_learner
from cluster.engine.zero import ZeroEngine
from cluster.engine.zero3 import GatheringEngine, ShardedEngine
from metatrain.config import Config
from metatrain.learning.learners import Learner
from metatrain.model.build import build_learner, build_theta
from metatrain.training.state import TrainState


def build_engine_and_learner(
    config: Config, state: TrainState, device: torch.device
) -> tuple[ZeroEngine, Learner]:
    """What applies outer gradients, from `state` on, and what makes them. Collective.

    Args:
        config: the run's configuration, with nothing left at `auto`.
        state: full trees, the same on every worker.
        device: this worker's.
    """
    theta = build_theta(config).load(state.parameters)
    if config.cluster.zero_stage < 3:
        theta.to(device)
    if config.cluster.inner_loop == "sharded":
        engine = ShardedEngine(theta, config, state.optimizer)
        return engine, build_sharded_learner(config, engine)
    kind = GatheringEngine if config.cluster.zero_stage == 3 else ZeroEngine
    engine = kind(theta, config, state.optimizer)
    return engine, build_learner(config, build_theta(config).to(device))
