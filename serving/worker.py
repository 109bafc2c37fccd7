"""Threads that advance jobs in turn: one of a device, or many where jobs wait for others."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from serving.limits import RequestError

_log = logging.getLogger("metatrain")

Result = TypeVar("Result")

# Computes a part of its work between two yields, and returns the result.
Job = Generator[None, None, Result]


class Worker:
    """Threads that advance all jobs, one part of each in turn.

    So nobody waits for the whole of another's work. One thread makes a device compute one thing at
    a time.

    Args:
        waiting: jobs that there may be at one time.
        threads: the number of threads.
    """

    def __init__(self, waiting: int, threads: int = 1) -> None:
        self._waiting = waiting
        self._jobs: deque[tuple[Job[Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._count = 0
        self._threads = [
            threading.Thread(target=self._work, name="worker", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def count(self) -> int:
        """The number of jobs that are not done."""
        return self._count

    def submit(self, job: Job[Result], *, bounded: bool = True) -> "Future[Result]":
        """Add a job; cancelling the future that returns its result ends the job.

        Args:
            job: the job.
            bounded: whether to refuse it when there are too many.

        Raises:
            RequestError: when there are too many.
        """
        future: Future[Result] = Future()
        if bounded:
            self.refuse_more()
        with self._changed:
            self._count += 1
            self._jobs.append((job, future))
            self._changed.notify()
        return future

    def refuse_more(self) -> None:
        """Refuse another job when there are too many.

        Raises:
            RequestError: when there are.
        """
        if self._count >= self._waiting:
            raise RequestError(
                429,
                f"{self._count} jobs wait already, and no more may; try again in a while.",
                retry_after=5,
            )

    def close(self) -> None:
        """End the threads after the parts that they compute; jobs that are not done are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (next_job := self._next()) is not None:
            if self._advance(*next_job):
                with self._changed:
                    self._jobs.append(next_job)
                    self._changed.notify()

    def _next(self) -> tuple[Job[Any], "Future[Any]"] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            return None if self._closed else self._jobs.popleft()

    def _advance(self, job: Job[Any], future: "Future[Any]") -> bool:
        """Compute one part of a job, and return whether there is more."""
        if future.cancelled():
            self._leave()
            _closed(job)
            return False
        try:
            next(job)
            return True
        except StopIteration as end:
            self._end(future.set_result, end.value)
        except BaseException as error:
            self._end(future.set_exception, error)
        return False

    def _end(self, tell: Callable[[Any], None], result: object) -> None:
        # First, since whoever is told may submit the next job at once.
        self._leave()
        # A client may cancel at any moment, and then nobody asks for the result.
        with suppress(InvalidStateError):
            tell(result)

    def _leave(self) -> None:
        with self._changed:
            self._count -= 1


def _closed(job: Job[Any]) -> None:
    """End a job that nobody waits for; an error of its end must not end the thread."""
    try:
        job.close()
    except Exception:
        _log.exception("a job that was given up did not end well")
