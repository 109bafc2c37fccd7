"""The learner: episodes in, outer gradients out; the seam between meta-learning and the engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.data.episodes import Episode
from metatrain.learning.inner.loop import InnerConfig, InnerLoop
from metatrain.learning.inner.rule import InnerRule

# Gives every worker the workers' values of each slot, in the order of slots. Collective.
Gather = Callable[[list[Any]], list[Any]]
# By task, what a learner keeps of it from one visit to the next, on the CPU: part of a run's state.
Memory = Mapping[str, Parameters]
# What a learner notes of the tasks of one outer step.
Notes = tuple[tuple[str, Parameters], ...]
C = TypeVar("C", bound=Section)


@dataclass(frozen=True)
class OuterGradient:
    """The outer gradient of some episodes.

    Attributes:
        gradient: shaped like theta; the engine averages it over the meta-batch and applies it
            like any gradient.
        metrics: scalars to log, detached. `loss` is what the learner minimises; `inner_first` and
            `inner_last` are the losses before the first and before the last inner step.
        failed: tasks whose metrics are not finite.
        notes: what `Learner.remember` needs of the tasks.
    """

    gradient: Parameters
    metrics: dict[str, Tensor]
    failed: tuple[str, ...] = ()
    notes: Notes = ()

    def plus(self, other: "OuterGradient") -> "OuterGradient":
        """Add `other`, in this one's tensors."""
        metrics = dict(self.metrics)
        for name, value in other.gradient.items():
            self.gradient[name] += value
        for name, value in other.metrics.items():
            metrics[name] = metrics[name] + value if name in metrics else value
        failed, notes = self.failed + other.failed, self.notes + other.notes
        return OuterGradient(self.gradient, metrics, failed, notes)

    def is_finite(self) -> bool:
        """Tell whether every metric is a finite number."""
        return bool(torch.stack(list(self.metrics.values())).isfinite().all())


class Learner(ABC, Generic[C]):
    """A method that turns episodes into outer gradients.

    It keeps nothing between calls: what it remembers of tasks is an argument and a result.

    Args:
        config: its section of the configuration.
        inner: the inner loop, with the generator whose parameters it moves.

    Attributes:
        scope: the scope that the method is defined by; None allows any.
        fixed_start: whether the parameters that the inner loop moves always start at the same
            values, so that nothing may learn them.
        products: whether it needs Hessian-vector products.
        shardable: whether it uses trees value by value, or through the inner loop, so that it
            works on shards.
        stackable: whether several tasks may pass through it as one whose loss is their sum.
        plays_games: whether it has a meaning for objectives of several terms.
        remembers: whether it keeps anything of single tasks.
    """

    Config: ClassVar[type[Section]]
    scope: ClassVar[str | None] = None
    products: ClassVar[bool] = False
    shardable: ClassVar[bool] = True
    stackable: ClassVar[bool] = True
    plays_games: ClassVar[bool] = True
    remembers: ClassVar[bool] = False
    fixed_start: bool = False

    def __init__(self, config: C, inner: InnerLoop) -> None:
        self.config, self.inner = config, inner
        terms = len(inner.theta.terms)
        if terms > 1 and not self.plays_games:
            raise UserError(
                f"learner {getattr(config, 'name', type(self).__name__)} minimises one loss in its "
                f"inner loop, and the objective has {terms} terms; choose reptile, fomaml, maml, "
                f"joint or admm."
            )

    @staticmethod
    def rule(config: Any, inner: InnerConfig, moved: Parameters) -> InnerRule:
        """Make the inner update rule, with its meta-parameters, for the parameters `moved`."""
        return InnerRule()

    @staticmethod
    def proximity(config: Any) -> float:
        """Return lambda of lambda/2 |phi - theta|^2 in the inner loss, in training and after."""
        return 0.0

    @abstractmethod
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        """Compute the outer gradient of one episode.

        Args:
            theta: the meta-parameters, which are left alone.
            episode: the episode.
            step: outer steps taken so far.
            memory: what is remembered of tasks; none at first.
        """

    def outer_gradient(
        self,
        theta: Parameters,
        episodes: Sequence[Episode],
        step: int,
        memory: Memory | None = None,
    ) -> OuterGradient:
        """Sum over `episodes`, one after the other, so that memory is that of one."""
        total = OuterGradient({name: torch.zeros_like(p) for name, p in theta.items()}, {})
        for episode in episodes:
            part = self.episode_gradient(theta, episode, step, memory)
            total = total.plus(part if part.is_finite() else replace(part, failed=(episode.task,)))
        return total

    def lr(self, step: int) -> float:
        """Return the inner rate of outer step `step`."""
        return self.inner.config.lr_at(step)

    def remember(self, memory: Memory, theta: Parameters, notes: Notes) -> Memory:
        """Update the memory once the engine has applied the gradient.

        Args:
            memory: before the outer step.
            theta: after it.
            notes: every worker's, in the order of slots.
        """
        return memory


def mean_by_task(notes: Notes) -> dict[str, Parameters]:
    """Average the trees of a task that came more than once in a meta-batch."""
    trees: dict[str, list[Parameters]] = {}
    for task, tree in notes:
        trees.setdefault(task, []).append(tree)
    return {
        task: {
            name: sum((t[name] for t in same[1:]), same[0][name]) / len(same) for name in same[0]
        }
        for task, same in trees.items()
    }
