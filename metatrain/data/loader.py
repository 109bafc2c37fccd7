"""The episodes of a worker, read ahead of training."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, Generic, TypeVar

from metatrain.data.config import DataConfig
from metatrain.data.episodes import Episode
from metatrain.data.slots import slots_of
from metatrain.data.tasks import TASK_SOURCES, EpisodeSampler, TaskSource

# Concurrent requests: it takes many of them to hide a latency of 50 ms.
READERS = 16
# Episodes read ahead at most: without a limit, small ones would come thousands of steps early.
_AHEAD = 4 * READERS

Plan = TypeVar("Plan")


def open_tasks(config: DataConfig) -> TaskSource:
    """Open the task source of a configuration.

    Raises:
        UserError: when its data cannot be used.
    """
    return TASK_SOURCES[config.tasks.name](config.tasks, config)


def load_episodes(
    source: TaskSource[Any, Plan],
    sampler: EpisodeSampler[Plan],
    *,
    start: int,
    rank: int = 0,
    world: int = 1,
) -> Generator[list[Episode], None, None]:
    """Yield the episodes of worker `rank` for every outer step from `start` on, without end.

    Coming episodes are read and decoded ahead while they fit `data.prefetch_bytes`. Threads and
    not processes, since obstore does not survive a fork.

    Raises:
        UserError: at an episode that cannot be read.
    """
    slots = slots_of(rank, world, sampler.meta_batch)
    plans = (sampler.plan(step, slot) for step in count(start) for slot in slots)
    ahead = _ReadAhead(plans, source.read, source.bytes_of, source.data.prefetch_bytes)
    try:
        while True:
            yield [ahead.next() for _ in slots]
    finally:
        ahead.close()


class _ReadAhead(Generic[Plan]):
    """Episodes in the order of their plans, read ahead as far as a budget allows.

    Args:
        plans: the plans of all the episodes, without end.
        read: returns the episode of a plan.
        bytes_of: returns the memory that reading it takes at most.
        budget: bytes for the episodes that are read ahead; one is read whatever its size.
    """

    def __init__(
        self,
        plans: Iterator[Plan],
        read: Callable[[Plan], Episode],
        bytes_of: Callable[[Plan], int],
        budget: int,
    ) -> None:
        self._plans, self._read, self._bytes_of, self._room = plans, read, bytes_of, budget
        self._following = next(plans)
        self._queue: deque[tuple[Future[Episode], int]] = deque()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="episodes")

    def next(self) -> Episode:
        """Return the next episode."""
        self._issue()
        future, size = self._queue.popleft()
        episode = future.result()
        self._room += size
        self._issue()
        return episode

    def close(self) -> None:
        """Stop reading."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _issue(self) -> None:
        size = self._bytes_of(self._following)
        while not self._queue or (size <= self._room and len(self._queue) < _AHEAD):
            self._queue.append((self._pool.submit(self._read, self._following), size))
            self._room -= size
            self._following = next(self._plans)
            size = self._bytes_of(self._following)
