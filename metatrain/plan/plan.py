"""A configuration's plan, and what to change where it does not fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import torch

from metatrain.base.errors import UserError
from metatrain.config import ClusterConfig, Config
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_generator
from metatrain.plan.collectives import Leg, legs_of
from metatrain.plan.hardware import Hardware
from metatrain.plan.layout import Layout, layout_of
from metatrain.plan.memory import Memory, memory_of
from metatrain.plan.pace import Pace, pace_of
from metatrain.plan.trace import Cost, to_be_traced, trace

# What needs less memory, the cheapest in time first.
_SHARDED = ("cluster.zero_stage=3", "cluster.inner_loop=sharded")
_REMEDIES = (
    ("meta.tasks_at_once=1",),
    ("meta.gradient=adjoint",),
    ("cluster.zero_stage=1",),
    ("inner.precision=bf16",),
    ("cluster.offload=true",),
    ("cluster.zero_stage=3",),
    _SHARDED,
    (*_SHARDED, "meta.hvp=difference"),  # second order on shards goes in no other way
    ("inner.optimizer=sgd",),
    ("inner.scope.name=film",),
)


@dataclass(frozen=True)
class Plan:
    """What a run will need.

    Attributes:
        config: of the run.
        hardware: what it is planned for.
        layout: how it comes out on workers.
        count: numbers in theta.
        cost: of the busiest worker's outer gradient.
        memory: of every worker.
    """

    config: Config
    hardware: Hardware
    layout: Layout
    count: int
    cost: Cost
    memory: Memory

    @property
    def fits(self) -> bool:
        """Whether every worker's memory is enough."""
        return self.memory.peak <= self.hardware.memory

    @property
    def legs(self) -> list[Leg]:
        """What a worker sends in an outer step."""
        return legs_of(self.config, self.layout, self.count, self.cost.passes)

    def pace(self) -> Pace:
        """Seconds of an outer step; takes an episode's time where that is measured."""
        return pace_of(self.config, self.hardware, self.layout, self.cost, self.legs)


def plan_of(config: Config, hardware: Hardware) -> Plan:
    """The plan of `config`, with what an inner loop that is `auto` will come to.

    Raises:
        UserError: when workers and groups do not come out even.
    """
    cluster = config.cluster
    open_yet = cluster.zero_stage == 3 and cluster.inner_loop == "auto"
    if not open_yet or config.obstacle_to_shards():
        return _plan(config, hardware, sharded=cluster.inner_loop == "sharded")
    gathered = _plan(config, hardware, sharded=False)
    # Learners of second order gather where they can, the others need not.
    if LEARNERS[config.learner.name].products and gathered.fits:
        return gathered
    return _plan(config, hardware, sharded=True)


def _plan(config: Config, hardware: Hardware, *, sharded: bool) -> Plan:
    layout = layout_of(config, hardware.per_node, sharded=sharded)
    # As one worker sees it, so that plans for any number of workers share one trace.
    one = {"cluster": ClusterConfig(), "meta": config.meta.model_copy(update={"batch": 2})}
    alone = config.model_copy(update=one).model_dump_json()
    episodes = to_be_traced(config, layout.episodes)
    (count, largest), cost = _numbers(alone), _cost(alone, episodes, layout.together)
    memory = memory_of(config, layout, count, largest, cost)
    return Plan(config, hardware, layout, count, cost, memory)


@lru_cache
def _cost(config: str, episodes: int, shards: int) -> Cost:
    return trace(Config.model_validate_json(config), episodes, shards)


@lru_cache
def _numbers(config: str) -> tuple[int, int]:
    """Of all parameters, and of the largest."""
    with torch.device("meta"):
        generator = build_generator(Config.model_validate_json(config))
    sizes = [p.numel() for p in generator.parameters()]
    return sum(sizes), max(sizes)


def remedy(plan: Plan, load: Callable[[Sequence[str]], Config]) -> tuple[list[str], Plan]:
    """Settings that make a plan fit, and the plan with them; what helps most where none do.

    Args:
        plan: of what does not fit.
        load: its configuration with further overrides.
    """
    best: tuple[list[str], Plan] = [], plan
    # Each alone, then one on top of the other.
    for settings in (*_REMEDIES, *accumulate(_REMEDIES)):
        try:
            attempt = plan_of(load(settings), plan.hardware)
        except UserError:
            continue  # not with this learner
        if attempt.memory.peak < best[1].memory.peak:
            best = _needed(settings, load), attempt
        if attempt.fits:
            break
    return best


def _needed(settings: Sequence[str], load: Callable[[Sequence[str]], Config]) -> list[str]:
    """The settings that change something, or that others need."""
    with_all = load(settings)

    def changes(setting: str) -> bool:
        try:
            return load([other for other in settings if other != setting]) != with_all
        except UserError:
            return True

    return [setting for setting in settings if changes(setting)]
