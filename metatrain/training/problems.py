"""Problems of a run, found before its workers start."""

from collections.abc import Callable

from metatrain.base.errors import UserError
from metatrain.base.text import counted
from metatrain.config import Config
from metatrain.data.loader import open_tasks
from metatrain.data.problems import data_problems, errors_of
from metatrain.data.tasks import TaskSource
from metatrain.generators.objectives.sections import DistillConfig
from metatrain.model.build import build_generator
from metatrain.training.lessons import teacher_of
from metatrain.training.run_data import encoded_source, refuse_few_held_out
from metatrain.training.starting_model import StartingModel


def problems_of(
    config: Config,
    source: Callable[[], TaskSource] | None = None,
    *,
    gpus: int | None = None,
    resumes: bool = False,
) -> list[UserError]:
    """List why a run cannot begin or resume; an empty list where it can.

    Args:
        config: the run's configuration.
        source: opens its task source; by default as the configuration has it.
        gpus: GPUs of the machine that trains; None where that is not known, or irrelevant.
        resumes: whether it has a checkpoint, and so no use for the model that it started from.
    """
    problems = errors_of(
        [lambda: build_generator(config), lambda: _refuse_missing_gpus(config, gpus)]
    )
    if config.run.init is not None and not resumes and not problems:
        problems += errors_of([lambda: StartingModel(config)])
    if isinstance(config.objective, DistillConfig):
        problems += errors_of([lambda: teacher_of(config.objective)])
    try:
        tasks = source() if source else open_tasks(config.data)
    except UserError as error:
        return [*problems, error]
    problems += data_problems(tasks)
    problems += errors_of([lambda: encoded_source(tasks, config)])
    if config.validation.tasks:
        problems += errors_of([lambda: refuse_few_held_out(tasks, config, "val")])
    return problems


def refuse(problems: list[UserError]) -> None:
    """Raise the problems of a run as one error, where there are any."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UserError("\n  ".join(["the run cannot train:", *map(str, problems)]))


def _refuse_missing_gpus(config: Config, gpus: int | None) -> None:
    cluster = config.cluster
    needed = (cluster.min_workers or cluster.workers) * cluster.gpus_per_worker
    if gpus is not None and gpus < needed:
        raise UserError(
            f"the run needs {counted(needed, 'GPU')}, and this machine has {gpus}; set "
            f"cluster.gpus_per_worker=0, lower cluster.workers, or join a cluster."
        )
