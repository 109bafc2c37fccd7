"""What `auto` comes to: chosen by worker 0 at a run's first start, and then kept.

Another choice would give other last bits, and a resumed run must end as if uninterrupted.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch.distributed as dist
from ray.train.torch import get_device

from metatrain.base.machine import free_memory
from metatrain.config import Config, with_values
from metatrain.data.slots import slots_of
from metatrain.data.tasks import EpisodeSampler, TaskSource
from metatrain.learning.gradient_choice import Choice, Way
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import choose_way
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.training.state import TrainState

# Values by the key that they are for.
Values = dict[str, Any]


def settle(
    config: Config,
    state: TrainState,
    source: TaskSource,
    sampler: EpisodeSampler,
    say: Callable[[str], None],
) -> Config:
    """`config` with values in the place of every `auto`. Collective.

    Args:
        config: the run's configuration.
        state: where the run begins or goes on.
        source: the task source.
        sampler: of the training episodes.
        say: tells the person who watches what was chosen, and why.
    """
    keys = _left_open(config)
    if not keys:
        return config
    values: list[Values | None] = [None]
    if dist.get_rank() == 0:
        values = [_chosen(config, state, source, sampler, say)]
    dist.broadcast_object_list(values, device=get_device())
    assert values[0] is not None, "worker 0 has chosen"
    return with_values(config, values[0])


def _left_open(config: Config) -> list[str]:
    """The keys whose value is `auto`, as far as anything depends on it."""
    keys = [f"meta.{k}" for k in Way._fields if getattr(config.meta, k) == "auto"]
    if config.cluster.zero_stage == 3 and config.cluster.inner_loop == "auto":
        return ["cluster.inner_loop", *keys]
    return keys


def _before(config: Config, state: TrainState) -> Values:
    """What earlier starts chose, if any step depends on it."""
    if state.step > 0:
        with suppress(MissingError, ValueError):
            return json.loads(read_file(_url(config)))
    return {}


def _url(config: Config) -> str:
    return f"{config.run.url}/settled.json"


def _chosen(
    config: Config,
    state: TrainState,
    source: TaskSource,
    sampler: EpisodeSampler,
    say: Callable[[str], None],
) -> Values:
    keys, before = _left_open(config), _before(config, state)
    values = {key: before[key] for key in keys if key in before}
    if "cluster.inner_loop" in keys and "cluster.inner_loop" not in values:
        values["cluster.inner_loop"], reason = _inner_loop(config, state)
        say(f"auto takes the {values['cluster.inner_loop']} inner loop: {reason}.")
    if values.get("cluster.inner_loop", config.cluster.inner_loop) == "sharded":
        values |= {key: "adjoint" for key in keys if key == "meta.gradient"}  # no other way
    if any(key not in values for key in keys):
        choice = _way(config, state, source, sampler)
        values |= {f"meta.{key}": value for key, value in choice.way._asdict().items()}
        say(f"auto takes {choice.way}: {choice.reason}.")
    write_file(_url(config), json.dumps(before | values).encode())
    return values


def _inner_loop(config: Config, state: TrainState) -> tuple[str, str]:
    """Sharded where that is exact; where it is not, only if whole trees will not do."""
    obstacle = config.obstacle_to_shards()
    if obstacle:
        return "gathered", obstacle
    if not LEARNERS[config.learner.name].products:
        return "sharded", "nothing is then ever whole"
    if config.cluster.workers > config.meta.batch:
        return "sharded", "there are not enough tasks for every worker to have its own"
    tree = sum(4 * p.numel() for p in state.parameters.values())
    # Theta, phi, the gradient, an episode's part of it, theta as it is gathered anew, and phi after
    # every inner step.
    needed = (5 + config.inner.steps) * tree
    device, neighbours = get_device(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    free = free_memory(device) // (1 if device.type == "cuda" else neighbours)
    said = f"whole trees need {needed / 2**30:.2f} GiB of {free / 2**30:.2f}"
    return ("gathered" if needed < free // 2 else "sharded"), said


def _way(config: Config, state: TrainState, source: TaskSource, sampler: EpisodeSampler) -> Choice:
    device = get_device()
    slots = slots_of(0, config.cluster.workers, config.meta.batch)
    plans = [sampler.plan(0, slot) for slot in slots]
    episodes = [source.read(plan).to(device) for plan in plans]
    theta = {name: p.to(device) for name, p in state.parameters.items()}
    return choose_way(config, theta, episodes)
