"""Trainings of equal compute: the number of outer steps that a budget of operations pays for."""

from dataclasses import dataclass

from metatrain.config import Config, with_values
from metatrain.plan.trace import to_be_traced, trace


@dataclass(frozen=True)
class PlannedTraining:
    """A system to train.

    Attributes:
        name: its name in tables.
        config: the configuration of its training.
        flops: operations of all its outer gradients.
    """

    name: str
    config: Config
    flops: float


def planned_training(
    name: str, config: Config, flops: float, *, least_steps: int = 1
) -> PlannedTraining:
    """Plan the training that spends `flops` in its outer gradients, at least `least_steps`."""
    each = trace(config, to_be_traced(config, config.meta.batch)).flops * config.meta.batch
    steps = max(least_steps, round(flops / each))
    short = {"meta.steps": steps, "meta.warmup": min(config.meta.warmup, steps // 10)}
    return PlannedTraining(name, with_values(config, short), steps * each)
