"""The data of a run: its data set as it was when the run began, and its episodes."""

from metatrain.base.errors import UserError
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.loader import open_store
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.classes import EpisodeSampler, read_episode
from metatrain.storage.files import read_file, write_file

# In a run's folder, the manifest of its data set as it was when the run began.
RUN_MANIFEST = f"data-{MANIFEST}"


def begin_run_with(store: EpisodeStore, config: Config) -> None:
    """Keep with the run what its data set is now.

    Raises:
        UserError: when its images are smaller than the run's, or the run's folder cannot be
            written.
    """
    store.refuse_enlarging(config.data.image_size)
    write_file(_manifest_of(config), store.manifest)


def store_of_run(config: Config) -> EpisodeStore:
    """The data set as it was when the run began, whatever has been packed into it since.

    Raises:
        UserError: when it no longer holds all that it held, or cannot be used.
    """
    now = open_store(config.data)
    then = open_store(config.data, read_file(_manifest_of(config)))
    if not set(then.row_groups) <= set(now.row_groups):
        raise UserError(
            f"{config.run.url} was begun with another data set than is at {config.data.path}; "
            f"name that one, or choose another run.name."
        )
    return then


def _manifest_of(config: Config) -> str:
    return f"{config.run.url}/{RUN_MANIFEST}"


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
