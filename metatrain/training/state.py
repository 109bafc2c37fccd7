"""The state of a run at one outer step."""

from dataclasses import dataclass, field

from metatrain.base.parameters import Parameters

Record = dict[str, float]


@dataclass(kw_only=True)
class TrainState:
    """All of a run at one outer step; the rest follows from it and the configuration.

    Its trees are whole, or local: the slices that one worker keeps, see `Partitions`.

    Attributes:
        step: outer steps taken.
        parameters: theta.
        average: the moving average of theta, which is the model that a run is trained for.
        optimizer: the outer optimiser's state, see `Engine.optimizer_state`.
        history: means of the metrics, one record for every window of outer steps.
        by_task: trees that the learner remembers of single tasks.
        replay: images that earlier outer steps made, see `metatrain.training.replay`; whole, and
            the same on every worker.
        tracks: averages for post-hoc EMA by their relative length; empty where none are kept.
        window: metrics of the outer steps whose means are not in the history yet.
    """

    step: int
    parameters: Parameters
    average: Parameters
    optimizer: Parameters = field(default_factory=dict)
    history: list[Record] = field(default_factory=list)
    by_task: dict[str, Parameters] = field(default_factory=dict)
    replay: Parameters = field(default_factory=dict)
    tracks: dict[str, Parameters] = field(default_factory=dict)
    window: list[Record] = field(default_factory=list)


def first_state(theta: Parameters) -> TrainState:
    """Return the state before the first step, with `theta` for its average too."""
    return TrainState(step=0, parameters=theta, average=theta)
