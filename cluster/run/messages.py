"""The messages between workers and their driver, through queues.

This file imports nothing of metatrain, since the process of a queue imports it.
"""

from typing import Literal, NamedTuple, Protocol


class Message(NamedTuple):
    """A message from a worker to the driver.

    Attributes:
        kind: `line` prints the text; `validated` and `saved` report the step of a checkpoint;
            `done` reports the step at which the workers ended; `error` ends the run with the text.
        text: of a line or an error.
        step: outer steps taken, of the other kinds.
        numbers: the values in a line of progress.
    """

    kind: Literal["line", "validated", "saved", "done", "error"]
    text: str = ""
    step: int = 0
    numbers: dict[str, float] | None = None


class Receiver(Protocol):
    """The driver, as a worker's observers see it."""

    def put(self, message: Message) -> None:
        """Send it a message."""
        ...


class Decision(NamedTuple):
    """The decision, after the validation at an outer step, whether training continues."""

    step: int
    continue_training: bool
