"""Start or resume a training run on Ray, and report its progress to the user."""

import json
from dataclasses import replace

from cluster.run.ray_cluster import check_resources, ray_connection, required_cpus
from cluster.run.worker_group import WorkerGroup
from metatrain.base.errors import UserError
from metatrain.config import Config, differences
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import read_validations
from metatrain.generators.frozen import pinned
from metatrain.model.build import build_generator
from metatrain.model.file import load_model, save_model
from metatrain.training.checkpoint import Checkpoint, CheckpointStore
from metatrain.training.run_data import begin_run_with, source_of_run, training_sampler

# The keys that may change when a run resumes: where and how it runs, but not what it computes.
_MAY_CHANGE = (
    "run.",
    "validation.",
    "cluster.",
    "checkpoint.",
    "adapt.",
    "objective.sampler.",
    "data.path",
    "data.prefetch_bytes",
    "data.cache_",
    "meta.steps",
)


def launch(config: Config) -> str:
    """Train a run to its last step, from the newest checkpoint on.

    Joins the cluster at RAY_ADDRESS, or starts one on this machine that ends with the run.

    Args:
        config: the run's configuration.

    Returns:
        The URL of the run's model.

    Raises:
        UserError: when the run cannot start, or failed.
    """
    config = pinned(config)
    checkpoints = CheckpointStore(config.run.url, _print_line)
    step = steps_taken(config, checkpoints)
    if step < config.meta.steps:
        _print_line(
            f"Training {config.run.url} from step {step:,} of {config.meta.steps:,}; starting "
            f"{config.cluster.workers} workers takes about 20 s."
        )
        with ray_connection(cpus=required_cpus(config)) as temporary:
            check_resources(config, fixed=temporary)
            # The workers start again when they were told to leave before the last step.
            while step < config.meta.steps:
                workers = WorkerGroup(config, cluster_outlives_run=not temporary)
                step = _relay_messages(workers, config.run.url, step)
    else:
        steps = f"{step:,} of {config.meta.steps:,} outer steps"
        _print_line(f"{config.run.url} is already trained ({steps}).")
    return finish(config)


def finish(config: Config) -> str:
    """Write the model of a run that has taken its last step, and return its URL."""
    url = f"{config.run.url}/model.safetensors"
    # Some keys may have changed since the last checkpoint.
    model = load_model(CheckpointStore(config.run.url).folder(config.meta.steps))
    save_model(replace(model, config=config), url)
    return url


def steps_taken(config: Config, checkpoints: CheckpointStore) -> int:
    """Return the outer steps that a run has taken, after the checks that need no worker.

    Raises:
        UserError: when the run cannot resume, or cannot begin.
    """
    build_generator(config)
    newest = checkpoints.newest()
    if newest and newest.step >= config.meta.steps:
        # No worker will read it, so nobody else would notice damage.
        newest = checkpoints.latest(read=Checkpoint.verified)
    source = source_of_run(config) if newest else open_tasks(config.data)
    training_sampler(source, config)
    if newest is None:
        begin_run_with(source, config)
        return 0
    _check_changes(newest.config, config)
    return newest.step


def _check_changes(before: Config, now: Config) -> None:
    """Print what has changed since the newest checkpoint.

    Raises:
        UserError: when a change affects what the run computes.
    """
    changes = {
        key: f"{key} from {json.dumps(a, default=str)} to {json.dumps(b, default=str)}"
        for key, (a, b) in differences(before, now).items()
    }
    forbidden = [text for key, text in changes.items() if not key.startswith(_MAY_CHANGE)]
    allowed = [text for key, text in changes.items() if key.startswith(_MAY_CHANGE)]
    if forbidden:
        note = f" ({', '.join(allowed)} may change)" if allowed else ""
        raise UserError(
            f"{now.run.url} cannot resume with changed {', '.join(forbidden)}{note}; restore the "
            f"previous values, or choose another run.name."
        )
    if allowed:
        _print_line(f"Changed since the newest checkpoint: {', '.join(allowed)}.")


def _relay_messages(workers: WorkerGroup, run: str, saved: int) -> int:
    """Print the workers' messages until they end.

    Args:
        workers: the workers.
        run: the run's URL.
        saved: the step of the newest checkpoint.

    Returns:
        The step of the newest checkpoint at the end.

    Raises:
        UserError: when a worker reports an error, or Ray gave up on the workers.
        KeyboardInterrupt: with the step of the newest checkpoint.
    """
    try:
        for message in workers.messages():
            if message.kind in ("saved", "done"):
                saved = message.step
            elif message.kind == "validated":
                _print_line(_validation_line(run))
            else:
                _print_line(message.text)
    except BaseException as error:
        workers.abort()
        if isinstance(error, KeyboardInterrupt):
            progress = f"saved up to step {saved:,}; the same command resumes from there"
            raise KeyboardInterrupt(progress) from error
        raise
    return saved


def _validation_line(run: str) -> str:
    """Summarize the newest validation of a run in a sentence."""
    validation = read_validations(run)[-1]
    last = validation.curve[-1]
    return (
        f"validated step {validation.step:,}: after {last.k} inner steps on unseen tasks, "
        f"{last.own_task:.1%} of samples are nearest to their own task, KID {last.kid:.3f}, query "
        f"loss {last.loss:.4f}"
    )


def _print_line(line: str) -> None:
    print(line, flush=True)
