"""The state of a run at one outer step."""

from dataclasses import dataclass, field

from metatrain.base.parameters import Parameters
from metatrain.learning.inner.theta import Theta

Record = dict[str, float]


@dataclass
class TrainState:
    """All that a run is at one moment; everything else follows from it and the configuration.

    Attributes:
        step: outer steps taken.
        parameters: theta.
        average: the moving average of theta, which is what gets used.
        optimizer: the outer optimiser's state.
        history: means of the metrics, one record per window of outer steps.
        by_task: what the learner remembers of single tasks.
        tracks: by relative length, the averages for post-hoc EMA; empty where none are kept.
        window: the metrics of outer steps whose means are not in the history yet.
    """

    step: int
    parameters: Parameters
    average: Parameters
    optimizer: Parameters = field(default_factory=dict)
    history: list[Record] = field(default_factory=list)
    by_task: dict[str, Parameters] = field(default_factory=dict)
    tracks: dict[str, Parameters] = field(default_factory=dict)
    window: list[Record] = field(default_factory=list)


def first_state(theta: Theta) -> TrainState:
    """Make the state before the first step, with random weights."""
    return TrainState(step=0, parameters=theta.copy(), average=theta.copy())
