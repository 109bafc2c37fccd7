"""Resolve the value `auto`: worker 0 chooses at a run's first start, and the choice is kept.

Another choice would change the last bits of the results, and a resumed run must end exactly as an
uninterrupted one.
"""

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from ray.train.torch import get_device

from cluster.engine.gather import gather_values
from metatrain.base.device import free_device_memory
from metatrain.config import Config, with_values
from metatrain.data.tasks import TaskSource
from metatrain.model.build import build_theta
from metatrain.training.auto_values import (
    Values,
    keep_values,
    kept_values,
    measured_method,
    method_keys,
)
from metatrain.training.checkpoint import CheckpointStore


def resolve_auto(
    config: Config,
    checkpoints: CheckpointStore,
    source: TaskSource,
    say: Callable[[str], None],
) -> Config:
    """Replace every `auto` in a configuration by a value. Collective.

    Args:
        config: the run's configuration.
        checkpoints: the run's checkpoints.
        source: the task source.
        say: tells the user what was chosen, and why.
    """
    keys = _auto_keys(config)
    if not keys:
        return config
    choice = _choose_values(config, checkpoints, source, say) if dist.get_rank() == 0 else None
    values, *_ = gather_values(choice)
    assert values is not None, "worker 0 has chosen"
    return with_values(config, values)


def _auto_keys(config: Config) -> list[str]:
    """List the keys whose value is `auto` and has an effect."""
    if config.cluster.zero_stage == 3 and config.cluster.inner_loop == "auto":
        return ["cluster.inner_loop", *method_keys(config)]
    return method_keys(config)


def _choose_values(
    config: Config,
    checkpoints: CheckpointStore,
    source: TaskSource,
    say: Callable[[str], None],
) -> Values:
    keys, earlier = _auto_keys(config), kept_values(config, checkpoints)
    values = {key: earlier[key] for key in keys if key in earlier}
    if "cluster.inner_loop" in keys and "cluster.inner_loop" not in values:
        values["cluster.inner_loop"], reason = _choose_inner_loop(config)
        say(f"auto selects the {values['cluster.inner_loop']} inner loop: {reason}.")
    if values.get("cluster.inner_loop", config.cluster.inner_loop) == "sharded":
        values |= {key: "adjoint" for key in keys if key == "meta.gradient"}  # the only one there
    if any(key not in values for key in keys):
        values |= measured_method(config, source, get_device(), say)
    keep_values(config, earlier | values)
    return values


def _choose_inner_loop(config: Config) -> tuple[str, str]:
    """Choose the sharded loop where it is exact, or where whole trees do not fit into memory.

    Returns:
        The inner loop, and the reason.
    """
    obstacle = config.obstacle_to_shards()
    if obstacle:
        return "gathered", obstacle
    if not config.learner.products:
        return "sharded", "no worker then holds a whole tree"
    if config.cluster.workers > config.meta.batch:
        return "sharded", "there are fewer tasks than workers"
    with torch.device("meta"):
        tree = sum(4 * p.numel() for p in build_theta(config).named().values())
    # Theta, phi, the gradient, an episode's part of it, the next theta, and phi after every inner
    # step.
    required = (5 + config.inner.steps) * tree
    device, neighbours = get_device(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    free = free_device_memory(device) // (1 if device.type == "cuda" else neighbours)
    reason = f"whole trees need {required / 2**30:.2f} GiB of {free / 2**30:.2f}"
    return ("gathered" if required < free // 2 else "sharded"), reason
