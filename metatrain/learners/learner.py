"""What every learner is: the one seam between meta-learning and the engine."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metatrain.episodes import Episode
from metatrain.inner_loop import InnerLoop
from metatrain.parameters import Parameters
from metatrain.section import Section


@dataclass(frozen=True)
class OuterGradient:
    """What episodes say of the meta-parameters.

    Attributes:
        gradient: shaped like theta; the engine averages it over the meta-batch and applies it
            like any gradient.
        metrics: scalars to log, detached. `loss` is what the learner minimises; `inner_first` and
            `inner_last` are the losses before the first and before the last inner step.
    """

    gradient: Parameters
    metrics: dict[str, Tensor]


class Learner(ABC):
    """Turns episodes into outer gradients.

    Args:
        inner: the inner loop, with the generator whose parameters it moves.
    """

    Config: ClassVar[type[Section]]

    def __init__(self, inner: InnerLoop) -> None:
        self.inner = inner

    @abstractmethod
    def episode_gradient(self, theta: Parameters, episode: Episode) -> OuterGradient:
        """The outer gradient of one episode at meta-parameters `theta`, which are left alone."""

    def outer_gradient(self, theta: Parameters, episodes: Sequence[Episode]) -> OuterGradient:
        """The sum over `episodes`, one after the other, so that memory is that of one."""
        gradient = {name: torch.zeros_like(p) for name, p in theta.items()}
        metrics: dict[str, Tensor] = {}
        for episode in episodes:
            part = self.episode_gradient(theta, episode)
            for name, value in part.gradient.items():
                gradient[name] += value
            for name, value in part.metrics.items():
                metrics[name] = metrics[name] + value if name in metrics else value
        return OuterGradient(gradient, metrics)
