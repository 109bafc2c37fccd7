"""Callbacks of a training run."""

from metatrain.training.state import Record, TrainState


class Observer:
    """Who watches a run: logs it, draws it, saves it. Override what is of interest.

    Attributes:
        leave: whether training is to end with this checkpoint; the same on all workers.
    """

    leave: bool = False

    def on_step(self, step: int, record: Record) -> None:
        """Called after every outer step with its metrics."""

    def on_checkpoint(self, state: TrainState) -> None:
        """Called before the first step, at the cadence of checkpoints, and before leaving."""

    def on_end(self) -> None:
        """Called when no step will follow on this worker."""
