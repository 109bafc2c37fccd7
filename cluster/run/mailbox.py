"""The line between a run's driver and its workers: messages there, the request to leave back.

This file imports nothing of metatrain, since the process of a mailbox imports it.
"""

import asyncio
from typing import Any

import ray

from cluster.placement import beside_driver
from cluster.run.messages import Message

# Every worker waits for the request to leave, and some send messages meanwhile.
_CALLS_AT_ONCE = 10_000


class Mailbox:
    """An actor beside the driver, which ends with it. Any process of the run may have a copy."""

    def __init__(self) -> None:
        options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": _CALLS_AT_ONCE}
        actor: Any = ray.remote(_Mailbox)
        self._actor = actor.options(scheduling_strategy=beside_driver(), **options).remote()

    def put(self, message: Message) -> None:
        """Send a message to the driver."""
        ray.get(self._actor.put.remote(message))

    def get(self, seconds: float) -> Message | None:
        """Return the oldest message; None where none comes in time."""
        return ray.get(self._actor.get.remote(seconds))

    def is_empty(self) -> bool:
        """Return whether all messages were taken."""
        return ray.get(self._actor.is_empty.remote())

    def tell_to_leave(self) -> None:
        """Ask the workers to save and to end."""
        ray.get(self._actor.tell_to_leave.remote())

    def request_to_leave(self) -> "ray.ObjectRef[None]":
        """Return a reference that is ready once the workers are asked to leave.

        It raises `RayActorError` when the mailbox ends before.
        """
        return self._actor.wait_to_leave.remote()

    def close(self) -> None:
        """End the actor; what is still in it is lost."""
        ray.kill(self._actor, no_restart=True)


class _Mailbox:
    """The actor's own side."""

    def __init__(self) -> None:
        self._messages, self._leaving = asyncio.Queue[Message](), asyncio.Event()

    async def put(self, message: Message) -> None:
        self._messages.put_nowait(message)

    async def get(self, seconds: float) -> Message | None:
        try:
            return await asyncio.wait_for(self._messages.get(), seconds)
        except TimeoutError:
            return None

    async def is_empty(self) -> bool:
        return self._messages.empty()

    async def tell_to_leave(self) -> None:
        self._leaving.set()

    async def wait_to_leave(self) -> None:
        await self._leaving.wait()
