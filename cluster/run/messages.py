"""What workers and their driver tell each other, through queues.

Apart from what they say it with: a queue's own process imports this, and nothing else of ours.
"""

from typing import Any, Literal, NamedTuple


class Message(NamedTuple):
    """What a worker tells the driver.

    A `line` to print, with its numbers where it tells of progress; the step that was `validated`;
    the step that is `saved`; the step where training is `done`, or why it ends, an `error`.
    """

    kind: Literal["line", "validated", "saved", "done", "error"]
    content: Any = None
    numbers: dict[str, float] | None = None


class Verdict(NamedTuple):
    """Whether a run is to go on after its validation at an outer step."""

    step: int
    go_on: bool
