"""What workers tell the driver, through a queue.

Apart from what they say it with: the queue's own process imports this, and nothing else of ours.
"""

from typing import Any, Literal, NamedTuple


class Message(NamedTuple):
    """What a worker tells the driver: a line, the step that is saved, or where or why it ends."""

    kind: Literal["line", "saved", "done", "error"]
    content: Any = None
