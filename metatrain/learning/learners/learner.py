"""The learner: the interface between meta-learning methods and the engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.inner.config import InnerConfig
from metatrain.learning.inner.loop import InnerLoop
from metatrain.learning.inner.rule import InnerRule
from metatrain.learning.learners.sections import LearnerConfig

# A collective: gives every worker the values of all slots, in the order of slots.
Gather = Callable[[list[Any]], list[Any]]
# Trees by task, on the CPU, that a learner keeps between visits to a task: part of a run's state.
Memory = Mapping[str, Parameters]
# Trees by task of one outer step, from which the memory is updated.
Notes = tuple[tuple[str, Parameters], ...]
C = TypeVar("C", bound=LearnerConfig)


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

    It keeps no state between calls: its memory of tasks is an argument and a result.

    Args:
        config: its section of the configuration.
        inner: the inner loop, with the generator.

    Attributes:
        fixed_start: whether the parameters that the inner loop moves start at fixed values, which
            nothing may learn.
        plays_games: whether it is defined for objectives of several terms.
    """

    Config: ClassVar[type[LearnerConfig]]
    plays_games: ClassVar[bool] = True
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
        objective = inner.generator.objective
        if config.products and objective.config.differentiates:
            raise UserError(
                f"learner {getattr(config, 'name', type(self).__name__)} differentiates the inner "
                f"loop, and objective {getattr(objective.config, 'name', '')} has a derivative "
                f"inside already; choose reptile, fomaml, joint or admm, or leave a gradient "
                f"penalty out (objective.penalty=0)."
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
            theta: the meta-parameters, which are not changed.
            episode: the episode.
            step: outer steps taken so far.
            memory: of tasks; none at first.
        """

    def outer_gradient(
        self,
        theta: Parameters,
        episodes: Sequence[Episode],
        step: int,
        memory: Memory | None = None,
    ) -> OuterGradient:
        """Sum the gradients of `episodes`, computed one by one to need the memory of one."""
        total = OuterGradient({name: torch.zeros_like(p) for name, p in theta.items()}, {})
        for episode in episodes:
            part = self.episode_gradient(theta, episode, step, memory)
            total = total.plus(part if part.is_finite() else replace(part, failed=(episode.task,)))
        return total

    def lr(self, step: int) -> float:
        """Return the inner rate of outer step `step`."""
        return self.inner.config.lr_at(step)

    def remember(self, memory: Memory, theta: Parameters, notes: Notes) -> Memory:
        """Update the memory after the engine has applied the gradient.

        Args:
            memory: before the outer step.
            theta: after the outer step.
            notes: every worker's, in the order of slots.
        """
        return memory


def mean_by_task(notes: Notes) -> dict[str, Parameters]:
    """Average the trees of tasks that occur more than once in a meta-batch."""
    trees: dict[str, list[Parameters]] = {}
    for task, tree in notes:
        trees.setdefault(task, []).append(tree)
    return {
        task: {
            name: sum((t[name] for t in same[1:]), same[0][name]) / len(same) for name in same[0]
        }
        for task, same in trees.items()
    }
