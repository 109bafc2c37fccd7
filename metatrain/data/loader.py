"""The episodes of a configuration: streamed ahead of the trainer, or a fixed held-out list."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

from metatrain.data.config import DataConfig
from metatrain.data.episodes import Episode
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.slots import slots_of
from metatrain.data.tasks.classes import EpisodePlan, EpisodeSampler, read_episode
from metatrain.storage.disk_cache import DiskCache

# Requests on their way at once: what hides 50 ms of latency is many of them.
READERS = 16
# Episodes on their way at most: small ones would else be read thousands of steps ahead.
_AHEAD = 4 * READERS


def open_store(config: DataConfig, manifest: bytes | None = None) -> EpisodeStore:
    """The data set of a configuration, with its cache on this node.

    Args:
        config: where both are.
        manifest: how the data set was at an earlier time; as it is now by default.

    Raises:
        UserError: when either cannot be used.
    """
    folder = config.cache_dir
    cache = DiskCache(folder, config.cache_bytes) if folder else None
    return EpisodeStore(config.path, cache, manifest)


def load_episodes(
    store: EpisodeStore,
    sampler: EpisodeSampler,
    config: DataConfig,
    *,
    start: int,
    rank: int = 0,
    world: int = 1,
) -> Generator[list[Episode], None, None]:
    """For every outer step from `start` on, without end, the episodes of worker `rank`.

    Coming episodes are read and decoded ahead while they fit `config.prefetch_bytes`. Threads and
    not processes, since obstore does not survive a fork.

    Raises:
        UserError: at the episode that cannot be read.
    """
    slots = slots_of(rank, world, sampler.meta_batch)
    plans = (sampler.plan(step, slot) for step in count(start) for slot in slots)
    size, channels = config.image_size, config.channels
    ahead = _ReadAhead(
        plans,
        read=lambda plan: read_episode(store, plan, size, channels),
        bytes_of=lambda plan: _bytes_in_memory(store, plan, config),
        budget=config.prefetch_bytes,
    )
    try:
        while True:
            yield [ahead.next() for _ in slots]
    finally:
        ahead.close()


class _ReadAhead:
    """Episodes in the order of their plans, as many of them on their way as the budget allows.

    Args:
        plans: of all the episodes, without end.
        read: makes an episode of a plan.
        bytes_of: the memory that takes at most.
        budget: of all that is on its way, in bytes; one episode may always be.
    """

    def __init__(
        self,
        plans: Iterator[EpisodePlan],
        read: Callable[[EpisodePlan], Episode],
        bytes_of: Callable[[EpisodePlan], int],
        budget: int,
    ) -> None:
        self._plans, self._read, self._bytes_of, self._room = plans, read, bytes_of, budget
        self._following = next(plans)
        self._queue: deque[tuple[Future[Episode], int]] = deque()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="episodes")

    def next(self) -> Episode:
        """The next episode."""
        self._issue()
        coming, size = self._queue.popleft()
        episode = coming.result()
        self._room += size
        self._issue()
        return episode

    def close(self) -> None:
        """Read nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _issue(self) -> None:
        size = self._bytes_of(self._following)
        while not self._queue or (size <= self._room and len(self._queue) < _AHEAD):
            self._queue.append((self._pool.submit(self._read, self._following), size))
            self._room -= size
            self._following = next(self._plans)
            size = self._bytes_of(self._following)


def _bytes_in_memory(store: EpisodeStore, plan: EpisodePlan, config: DataConfig) -> int:
    """The row groups of an episode, and its tensors of 4 bytes a value."""
    values = len(plan.images) * config.channels * config.image_size**2
    return store.bytes_of(plan.task, plan.images) + 4 * values
