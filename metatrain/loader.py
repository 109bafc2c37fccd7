"""Reading episodes ahead of the trainer, on threads."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from metatrain.batch import Episode, read_episode
from metatrain.config import DataConfig
from metatrain.episodes import EpisodeSampler, slots_of
from metatrain.store import EpisodeStore


def load_episodes(
    store: EpisodeStore,
    sampler: EpisodeSampler,
    config: DataConfig,
    *,
    start: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[list[Episode]]:
    """For every outer step from `start` on, without end, the episodes of worker `rank`.

    Threads and not processes, since s3fs does not survive a fork; `config.prefetch` bounds how
    many episodes wait in memory.

    Raises:
        UserError: at the episode that cannot be read.
    """
    slots = slots_of(rank, world, sampler.meta_batch)
    ahead = max(1, config.prefetch // len(slots))
    pool = ThreadPoolExecutor(max_workers=min(config.prefetch, 4), thread_name_prefix="episodes")

    def submit(step: int) -> list[Future[Episode]]:
        plans = [sampler.plan(step, slot) for slot in slots]
        size, channels = config.image_size, config.channels
        return [pool.submit(read_episode, store, plan, size, channels) for plan in plans]

    try:
        queue = deque(submit(start + i) for i in range(ahead))
        step = start + ahead
        while True:
            episodes = [future.result() for future in queue.popleft()]
            queue.append(submit(step))
            step += 1
            yield episodes
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
