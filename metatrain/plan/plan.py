"""The plan of a configuration, and settings to change if it does not fit."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate

import torch

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.config import ClusterConfig, Config
from metatrain.model.build import build_theta
from metatrain.plan.collectives import Transfer, transfers_of
from metatrain.plan.hardware import Hardware
from metatrain.plan.layout import Layout, layout_of
from metatrain.plan.memory import Memory, memory_of
from metatrain.plan.step_time import StepTime, step_time_of
from metatrain.plan.trace import Cost, to_be_traced, trace

# Settings that need less memory, those that cost the least time first.
_SHARDED = ("cluster.zero_stage=3", "cluster.inner_loop=sharded")
_REMEDIES = (
    ("meta.tasks_at_once=1",),
    ("meta.gradient=adjoint",),
    ("cluster.zero_stage=1",),
    ("inner.precision=bf16",),
    ("generator.precision=bf16",),
    ("cluster.offload=true",),
    ("cluster.zero_stage=3",),
    _SHARDED,
    (*_SHARDED, "meta.hvp=difference"),  # second order on shards goes in no other way
    ("generator.recompute=true",),
    ("inner.optimizer=sgd",),
    ("inner.scope.name=film",),
)


@dataclass(frozen=True)
class Plan:
    """Needs of a run.

    Attributes:
        config: the run's configuration.
        hardware: its workers.
        layout: their groups.
        count: numbers in theta.
        cost: cost of the busiest worker's outer gradient.
        memory: memory of every worker.
    """

    config: Config
    hardware: Hardware
    layout: Layout
    count: int
    cost: Cost
    memory: Memory

    @property
    def fits(self) -> bool:
        """Whether a worker has enough memory."""
        return self.memory.peak <= self.hardware.memory

    @property
    def transfers(self) -> list[Transfer]:
        """Bytes that a worker sends in an outer step."""
        return transfers_of(self.config, self.layout, count=self.count, passes=self.cost.passes)

    def step_time(self) -> StepTime:
        """Predict the time of an outer step; on CPUs by running an episode three times."""
        return step_time_of(self.config, self.hardware, self.layout, self.cost, self.transfers)


def plan_of(config: Config, hardware: Hardware) -> Plan:
    """Plan `config`, with the inner loop that `auto` will choose.

    Raises:
        UserError: when the size of groups does not divide the workers.
    """
    cluster = config.cluster
    open_yet = cluster.zero_stage == 3 and cluster.inner_loop == "auto"
    if not open_yet or config.obstacle_to_shards():
        return _plan(config, hardware, sharded=cluster.inner_loop == "sharded")
    gathered = _plan(config, hardware, sharded=False)
    # Learners of second order gather where that fits, the others need not.
    if config.learner.products and gathered.fits:
        return gathered
    return _plan(config, hardware, sharded=True)


def _plan(config: Config, hardware: Hardware, *, sharded: bool) -> Plan:
    layout = layout_of(config, hardware.per_node, sharded=sharded)
    # For one worker, so that plans for any number of workers share one trace.
    one = {"cluster": ClusterConfig(), "meta": config.meta.model_copy(update={"batch": 2})}
    alone = config.model_copy(update=one).model_dump_json()
    episodes = to_be_traced(config, layout.episodes)
    sizes, cost = _sizes(alone), _cost(alone, episodes, layout.together)
    memory = memory_of(config, layout, **asdict(sizes), cost=cost)
    return Plan(config, hardware, layout, sizes.count, cost, memory)


@lru_cache
def _cost(config: str, episodes: int, shards: int) -> Cost:
    return trace(Config.model_validate_json(config), episodes, shards)


@dataclass(frozen=True)
class _Sizes:
    """Numbers in theta and in its largest tensor, and bytes of all that is no part of it."""

    count: int
    largest: int
    frozen: int


@lru_cache
def _sizes(config: str) -> _Sizes:
    with torch.device("meta"):
        theta = build_theta(Config.model_validate_json(config))
    trained = [p.numel() for p in theta.named().values()]
    others = [p for p in theta.parameters() if not p.requires_grad]
    frozen = sum(tensor.nbytes for tensor in (*others, *theta.buffers()))
    return _Sizes(sum(trained), max(trained), frozen)


def remedy(plan: Plan, load: Callable[[Sequence[str]], Config]) -> tuple[list[str], Plan]:
    """Find settings that make a plan fit, or those that help most if none do.

    Args:
        plan: a plan that does not fit.
        load: loads its configuration with further overrides.

    Returns:
        The settings, and the plan with them.
    """
    best: tuple[list[str], Plan] = [], plan
    # Each alone, then all of the first ones together.
    attempts = (*_REMEDIES, *accumulate(_REMEDIES))
    for settings in tracked("trying settings", attempts, len(attempts)):
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
    """Return the settings that change something, or that others need."""
    with_all = load(settings)

    def changes(setting: str) -> bool:
        try:
            return load([other for other in settings if other != setting]) != with_all
        except UserError:
            return True

    return [setting for setting in settings if changes(setting)]
