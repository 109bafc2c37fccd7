"""The data of a run: its task source as it was when the run began, and its episodes."""

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.loader import open_tasks
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.tasks import EpisodeSampler, TaskSource
from metatrain.generators.codecs.sections import IdentityConfig
from metatrain.generators.frozen import content_hash
from metatrain.generators.objectives.sections import DistillConfig
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.training.lessons import RecurringSampler, period_of

# The file in a run's folder with the manifest of its data set as it was when the run began.
RUN_MANIFEST = f"data-{MANIFEST}"


def run_folders(model_url: str) -> list[str]:
    """List the folders that may be the run's of a model file: its own, or a checkpoint's run's."""
    folder = model_url.rpartition("/")[0] or "."
    return list(dict.fromkeys([folder, folder.rsplit("/", 2)[0]]))


def begin_run_with(source: TaskSource, config: Config) -> None:
    """Store the data's present state with the run.

    Raises:
        UserError: when the run's folder cannot be written.
    """
    if source.snapshot is not None:
        write_file(_manifest_of(config), source.snapshot)


def source_of_run(config: Config) -> TaskSource:
    """Open the task source as it was when the run began, whatever was added to it since.

    Raises:
        UserError: when it no longer has all that it had then, or cannot be used.
    """
    now = open_tasks(config.data)
    if now.snapshot is None:
        return now
    try:
        then = now.as_of(read_file(_manifest_of(config)))
    except MissingError:
        then = None
    if then is None:
        raise UserError(
            f"{config.run.url} began with another data set than the one at {now.url}; "
            f"name that one, or choose another run.name."
        )
    return then


def _manifest_of(config: Config) -> str:
    return f"{config.run.url}/{RUN_MANIFEST}"


def encoded_source(source: TaskSource, config: Config) -> TaskSource:
    """Return a run's source with the latents that are stored with the data, where there are any.

    Training alone sees them: validation compares images.

    Raises:
        UserError: when they are those of another codec than the run's.
    """
    if isinstance(config.codec, IdentityConfig):
        return source
    return source.encoded_by(content_hash(config.codec))


def training_sampler(source: TaskSource, config: Config) -> EpisodeSampler:
    """Return the sampler of meta-training.

    Raises:
        UserError: when tasks have too few images and the configuration refuses such tasks.
    """
    sampler = source.sampler("train", seed=config.seed, meta_batch=config.meta.batch)
    if isinstance(config.objective, DistillConfig):
        return RecurringSampler(sampler, period_of(config.objective, config.meta.batch))
    return sampler


def refuse_few_held_out(source: TaskSource, config: Config, split: str) -> None:
    """Refuse a validation of fewer than two tasks, which scores compare.

    Raises:
        UserError: when fewer tasks of `split` have enough images.
    """
    queries = config.validation.images
    sampler = source.sampler(split, seed=config.seed, meta_batch=1, queries=queries, too_few="skip")
    if sampler.epoch is not None and sampler.epoch < 2:
        raise UserError(
            f"split '{split}' of {source.url} has one task with enough images; scores need two, so "
            f"lower validation.images or data.shots, or pack more tasks."
        )


def held_out_episodes(
    source: TaskSource, config: Config, *, split: str, tasks: int, queries: int
) -> list[Episode]:
    """Read one episode of each of up to `tasks` tasks of `split`, always the same ones.

    Tasks with fewer than shots + `queries` images are left out.

    Raises:
        UserError: when that leaves no task.
    """
    sampler = source.sampler(split, seed=config.seed, meta_batch=1, queries=queries, too_few="skip")
    count = min(tasks, sampler.epoch or tasks)
    steps = tracked("reading held-out tasks", range(count), count)
    return [source.read(sampler.plan(step, slot=0)) for step in steps]
