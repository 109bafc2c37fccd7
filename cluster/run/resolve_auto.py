"""Resolve the value `auto`: worker 0 chooses at a run's first start, and the choice is kept.

Another choice would change the last bits of the results, and a resumed run must end exactly as an
uninterrupted one.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress

import torch
import torch.distributed as dist
from ray.train.torch import get_device

from metatrain.base.machine import free_memory
from metatrain.config import Config, with_values
from metatrain.data.slots import slots_of
from metatrain.data.tasks import EpisodeSampler, TaskSource
from metatrain.learning.gradient_choice import Choice, GradientMethod
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_theta, choose_method
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.training.checkpoint import CheckpointStore

# Chosen values by dotted key.
Values = dict[str, str | int]


def resolve_auto(
    config: Config,
    checkpoints: CheckpointStore,
    source: TaskSource,
    sampler: EpisodeSampler,
    say: Callable[[str], None],
) -> Config:
    """Replace every `auto` in a configuration by a value. Collective.

    Args:
        config: the run's configuration.
        checkpoints: the run's checkpoints.
        source: the task source.
        sampler: plans the training episodes.
        say: tells the user what was chosen, and why.
    """
    keys = _auto_keys(config)
    if not keys:
        return config
    values: list[Values | None] = [None]
    if dist.get_rank() == 0:
        values = [_choose_values(config, checkpoints, source, sampler, say)]
    dist.broadcast_object_list(values, device=get_device())
    assert values[0] is not None, "worker 0 has chosen"
    return with_values(config, values[0])


def _auto_keys(config: Config) -> list[str]:
    """List the keys whose value is `auto` and has an effect."""
    keys = [f"meta.{k}" for k in GradientMethod._fields if getattr(config.meta, k) == "auto"]
    if config.cluster.zero_stage == 3 and config.cluster.inner_loop == "auto":
        return ["cluster.inner_loop", *keys]
    return keys


def _earlier_values(config: Config, checkpoints: CheckpointStore) -> Values:
    """Read the choices of earlier starts; empty where no step depends on them yet."""
    if any(step > 0 for step in checkpoints.steps()):
        with suppress(MissingError, json.JSONDecodeError):
            return json.loads(read_file(_url(config)))
    return {}


def _url(config: Config) -> str:
    return f"{config.run.url}/settled.json"


def _choose_values(
    config: Config,
    checkpoints: CheckpointStore,
    source: TaskSource,
    sampler: EpisodeSampler,
    say: Callable[[str], None],
) -> Values:
    keys, earlier = _auto_keys(config), _earlier_values(config, checkpoints)
    values = {key: earlier[key] for key in keys if key in earlier}
    if "cluster.inner_loop" in keys and "cluster.inner_loop" not in values:
        values["cluster.inner_loop"], reason = _choose_inner_loop(config)
        say(f"auto selects the {values['cluster.inner_loop']} inner loop: {reason}.")
    if values.get("cluster.inner_loop", config.cluster.inner_loop) == "sharded":
        values |= {key: "adjoint" for key in keys if key == "meta.gradient"}  # the only one there
    if any(key not in values for key in keys):
        choice = _choose_method(config, source, sampler)
        values |= {f"meta.{key}": value for key, value in choice.method._asdict().items()}
        say(f"auto selects {choice.method}: {choice.reason}.")
    write_file(_url(config), json.dumps(earlier | values).encode())
    return values


def _choose_inner_loop(config: Config) -> tuple[str, str]:
    """Choose the sharded loop where it is exact, or where whole trees do not fit into memory.

    Returns:
        The inner loop, and the reason.
    """
    obstacle = config.obstacle_to_shards()
    if obstacle:
        return "gathered", obstacle
    if not LEARNERS[config.learner.name].products:
        return "sharded", "no worker then holds a whole tree"
    if config.cluster.workers > config.meta.batch:
        return "sharded", "there are fewer tasks than workers"
    with torch.device("meta"):
        tree = sum(4 * p.numel() for p in build_theta(config).named().values())
    # Theta, phi, the gradient, an episode's part of it, the next theta, and phi after every inner
    # step.
    required = (5 + config.inner.steps) * tree
    device, neighbours = get_device(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    free = free_memory(device) // (1 if device.type == "cuda" else neighbours)
    reason = f"whole trees need {required / 2**30:.2f} GiB of {free / 2**30:.2f}"
    return ("gathered" if required < free // 2 else "sharded"), reason


def _choose_method(config: Config, source: TaskSource, sampler: EpisodeSampler) -> Choice:
    """Time the methods of outer gradients on worker 0's first episodes."""
    device = get_device()
    slots = slots_of(0, config.cluster.workers, config.meta.batch)
    plans = [sampler.plan(0, slot) for slot in slots]
    episodes = [source.read(plan).to(device) for plan in plans]
    theta = build_theta(config).to(device).copy()
    return choose_method(config, theta, episodes)
