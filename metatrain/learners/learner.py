"""What every learner is: the one seam between meta-learning and the engine."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from metatrain.episodes import Episode
from metatrain.inner_loop import InnerLoop
from metatrain.parameters import Parameters


@dataclass(frozen=True)
class OuterGradient:
    """What an episode says of the meta-parameters.

    Attributes:
        gradient: shaped like theta; the engine averages it over the meta-batch and applies it
            like any gradient, whatever the algorithm.
        metrics: scalars to log, detached.
    """

    gradient: Parameters
    metrics: dict[str, Tensor]


class Learner(ABC):
    """Turns episodes into outer gradients.

    Args:
        inner: the inner loop, with the generator whose parameters it moves.
    """

    def __init__(self, inner: InnerLoop) -> None:
        self.inner = inner

    @abstractmethod
    def outer_gradient(self, theta: Parameters, episode: Episode) -> OuterGradient:
        """The outer gradient of one episode at meta-parameters `theta`; `theta` is left alone."""
