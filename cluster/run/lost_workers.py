"""Report lost workers, after which Ray Train starts all workers again."""

from ray.train import UserCallback
from typing_extensions import override

from cluster.ray_internals import is_dead, is_unresponsive
from cluster.run.messages import Message, Receiver
from metatrain.base.errors import UserError
from metatrain.base.text import reason_of


class LostWorkerReporter(UserCallback):
    """Callback of Ray Train's controller that tells the driver of lost workers.

    Args:
        messages: the driver.
    """

    def __init__(self, messages: Receiver) -> None:
        self._messages = messages

    @override
    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        lost = {
            rank: "has not answered for cluster.timeout" if is_unresponsive(error) else "is gone"
            for rank, error in worker_exceptions.items()
            if is_unresponsive(error) or is_dead(error)
        }
        # Workers that wait for a lost worker fail too, and Ray may notice them first.
        waiting = {
            rank: f"waited in vain for another ({reason_of(error)})"
            for rank, error in worker_exceptions.items()
            if not isinstance(error, UserError)
        }
        for rank, event in (lost or waiting).items():
            text = f"Worker {rank} {event}; restarting all workers."
            self._messages.put(Message("line", text))
