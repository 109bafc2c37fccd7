"""Start or resume a training run on Ray, and report its progress to the user."""

import torch

from cluster.addresses import address_to_join
from cluster.run.ray_cluster import (
    check_resources,
    ray_connection,
    required_cpus,
)
from cluster.run.worker_group import WorkerGroup
from metatrain.base.progress import log_line
from metatrain.base.text import counted
from metatrain.config import Config
from metatrain.evaluation.validation import read_validations
from metatrain.generators.frozen import pinned
from metatrain.storage.lease import Lease, lease
from metatrain.training.checkpoint import CheckpointStore
from metatrain.training.run import begin_or_resume, finish_run


def launch(config: Config, *, wait: bool = False) -> str:
    """Train a run to its last step, from the newest checkpoint on.

    Joins the cluster at RAY_ADDRESS, or starts one on this machine that ends with the run.

    Args:
        config: the run's configuration.
        wait: whether to wait until another process that trains the run has ended.

    Returns:
        The URL of the run's model.

    Raises:
        HeldError: when another process trains the run.
        UserError: when the run cannot start, or failed.
        KeyboardInterrupt: with the step up to which the run is saved.
    """
    config = pinned(config)
    gpus = None if address_to_join() else torch.cuda.device_count()
    with lease(config.run.url, "trains", wait=wait) as held:
        checkpoints = CheckpointStore(config.run.url, _print_line)
        step = begin_or_resume(config, checkpoints, _print_line, gpus=gpus)
        if step < config.meta.steps:
            _train(config, step, held)
        else:
            steps = f"{step:,} of {config.meta.steps:,} outer steps"
            _print_line(f"{config.run.url} is already trained ({steps}).")
        return finish_run(config)


def _train(config: Config, step: int, held: Lease) -> None:
    _print_line(
        f"Training {config.run.url} from step {step:,} of {config.meta.steps:,}; starting "
        f"{counted(config.cluster.workers, 'worker')} takes about 20 s."
    )
    try:
        with ray_connection(cpus=required_cpus(config)) as temporary:
            check_resources(config, fixed=temporary)
            # The workers start again when they were told to leave before the last step.
            while step < config.meta.steps:
                workers = WorkerGroup(config, held.key, cluster_outlives_run=not temporary)
                step = _relay_messages(workers, config.run.url, step, held)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (_progress(config.run.url),)
        raise


def _relay_messages(workers: WorkerGroup, run: str, saved: int, held: Lease) -> int:
    """Print the workers' messages until they end.

    Args:
        workers: the workers.
        run: the run's URL.
        saved: the step of the newest checkpoint.
        held: the lease of the run.

    Returns:
        The step of the newest checkpoint at the end.

    Raises:
        UserError: when a worker reports an error, Ray gave up on the workers, or the lease is lost.
        KeyboardInterrupt: after the workers have saved, if they trained.
        BrokenPipeError: the same, when nobody reads the output any more.
    """
    training = False
    try:
        for message in workers.messages():
            held.check()
            training |= message.kind == "saved" or message.numbers is not None
            if message.kind in ("saved", "done"):
                saved = message.step
            elif message.kind == "validated":
                _print_line(_validation_line(run))
            else:
                _print_line(message.text)
    except (KeyboardInterrupt, BrokenPipeError):
        if training:
            _save(workers)
        workers.abort()
        raise
    except BaseException:
        workers.abort()
        raise
    return saved


def _save(workers: WorkerGroup) -> None:
    """Let the workers save and leave."""
    workers.tell_to_leave()
    for message in workers.messages():
        if message.kind == "done":
            return


def _progress(run: str) -> str:
    steps = CheckpointStore(run).steps()
    if not steps:
        return "nothing is saved yet"
    return f"saved up to step {steps[-1]:,}; the same command resumes from there"


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
    print(log_line(line), flush=True)
