"""The episodes of a configuration: streamed ahead of the trainer, or a fixed held-out list."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from metatrain.config import Config, DataConfig
from metatrain.episodes import Episode, EpisodeSampler, read_episode, slots_of
from metatrain.store import EpisodeStore


def training_sampler(store: EpisodeStore, config: Config) -> EpisodeSampler:
    """The sampler of meta-training.

    Raises:
        UserError: when tasks have too few images and the configuration refuses such tasks.
    """
    data = config.data
    return EpisodeSampler(
        store.tasks("train"),
        shots=data.shots,
        queries=data.queries,
        meta_batch=config.meta.batch,
        seed=config.seed,
        split="train",
        too_few=data.too_few,
    )


def held_out_episodes(
    store: EpisodeStore, config: Config, *, split: str, tasks: int, queries: int
) -> list[Episode]:
    """One episode of each of up to `tasks` tasks of `split`, always the same ones.

    Tasks with fewer than shots + `queries` images are passed over.

    Raises:
        UserError: when that leaves no task.
    """
    sampler = EpisodeSampler(
        store.tasks(split),
        shots=config.data.shots,
        queries=queries,
        meta_batch=1,
        seed=config.seed,
        split=split,
        too_few="skip",
    )
    data = config.data
    plans = [sampler.plan(step, slot=0) for step in range(min(tasks, len(sampler.tasks)))]
    return [read_episode(store, plan, data.image_size, data.channels) for plan in plans]


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
