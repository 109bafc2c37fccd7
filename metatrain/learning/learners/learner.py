"""What every learner is: the one seam between meta-learning and the engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.data.episodes import Episode
from metatrain.learning.inner.loop import InnerConfig, InnerLoop
from metatrain.learning.inner.rule import InnerRule

# Hands what each worker has of its episodes to all workers, in the order of slots. Collective.
Gather = Callable[[list[Any]], list[Any]]


@dataclass(frozen=True)
class OuterGradient:
    """What episodes say of the meta-parameters.

    Attributes:
        gradient: shaped like theta; the engine averages it over the meta-batch and applies it
            like any gradient.
        metrics: scalars to log, detached. `loss` is what the learner minimises; `inner_first` and
            `inner_last` are the losses before the first and before the last inner step.
        failed: tasks whose metrics are not finite numbers.
    """

    gradient: Parameters
    metrics: dict[str, Tensor]
    failed: tuple[str, ...] = ()

    def plus(self, other: "OuterGradient") -> "OuterGradient":
        """The sum of both, made in this one's tensors."""
        metrics = dict(self.metrics)
        for name, value in other.gradient.items():
            self.gradient[name] += value
        for name, value in other.metrics.items():
            metrics[name] = metrics[name] + value if name in metrics else value
        return OuterGradient(self.gradient, metrics, self.failed + other.failed)

    def is_finite(self) -> bool:
        """Whether every metric is a finite number."""
        return bool(torch.stack(list(self.metrics.values())).isfinite().all())


class Learner(ABC):
    """Turns episodes into outer gradients.

    Args:
        config: its own section of the configuration.
        inner: the inner loop, with the generator whose parameters it moves.

    Attributes:
        scope: the scope that the method is defined by; None where any will do.
        fixed_start: whether what its inner loop moves starts at the same values for ever, so that
            nothing may learn them.
        products: whether it needs Hessian-vector products.
        shardable: whether all that it does with trees goes value by value, or through the inner
            loop, so that it works on shards.
        stackable: whether several tasks may pass through it as one whose loss is their sum.
        by_task: what it remembers of single tasks, on the CPU: part of the run's state.
    """

    Config: ClassVar[type[Section]]
    scope: ClassVar[str | None] = None
    products: ClassVar[bool] = False
    shardable: ClassVar[bool] = True
    stackable: ClassVar[bool] = True
    fixed_start: bool = False

    def __init__(self, config: Any, inner: InnerLoop) -> None:
        self.config, self.inner = config, inner
        self.by_task: dict[str, Parameters] = {}

    @staticmethod
    def rule(config: Any, inner: InnerConfig, moved: Parameters) -> InnerRule:
        """The inner update rule, with its meta-parameters, for the parameters `moved`."""
        return InnerRule()

    @staticmethod
    def proximity(config: Any) -> float:
        """Weight lambda of lambda/2 |phi - theta|^2 in the inner loss, in training and after."""
        return 0.0

    @abstractmethod
    def episode_gradient(self, theta: Parameters, episode: Episode, step: int) -> OuterGradient:
        """The outer gradient of one episode.

        Args:
            theta: the meta-parameters, which are left alone.
            episode: the episode.
            step: outer steps taken so far.
        """

    def outer_gradient(
        self, theta: Parameters, episodes: Sequence[Episode], step: int
    ) -> OuterGradient:
        """The sum over `episodes`, one after the other, so that memory is that of one."""
        total = OuterGradient({name: torch.zeros_like(p) for name, p in theta.items()}, {})
        for episode in episodes:
            part = self.episode_gradient(theta, episode, step)
            total = total.plus(part if part.is_finite() else replace(part, failed=(episode.task,)))
        return total

    def begin_step(self, step: int) -> None:
        """Called before the outer gradient of outer step `step`: sets its inner rate."""
        self.inner.lr = self.inner.config.lr_at(step)

    def end_step(self, theta: Parameters, gather: Gather) -> None:
        """Called on every worker once the engine has applied the gradient, which gave `theta`."""


def mean_by_task(found: Sequence[tuple[str, Parameters]]) -> dict[str, Parameters]:
    """What was found of each task, averaged where a task came more than once in a meta-batch."""
    trees: dict[str, list[Parameters]] = {}
    for task, tree in found:
        trees.setdefault(task, []).append(tree)
    return {
        task: {
            name: sum((t[name] for t in same[1:]), same[0][name]) / len(same) for name in same[0]
        }
        for task, same in trees.items()
    }
