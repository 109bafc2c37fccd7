"""Callbacks of a training run."""

from metatrain.training.state import Record, TrainState


class Observer:
    """Callbacks of a training run (logging, sampling, checkpointing). Override those you need.

    Attributes:
        leave: whether training is to end with this checkpoint; the same on all workers.
    """

    leave: bool = False

    def on_step(self, step: int, record: Record) -> None:
        """Receive the metrics of an outer step."""

    def on_checkpoint(self, state: TrainState) -> None:
        """Receive the state before the first step, for every checkpoint, and before leaving.

        Called on all workers alike, with this worker's local trees: views that later steps change.
        """

    def on_end(self) -> None:
        """Finish; no step follows on this worker."""
