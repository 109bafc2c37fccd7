"""The commands that this package adds to `metatrain`."""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.addresses import address_to_join
from metatrain.base.errors import UserError
from metatrain.base.text import counted, printable
from metatrain.cli import calibrate, codec, distill, evaluate
from metatrain.cli.arguments import (
    add_config_arguments,
    add_wait_argument,
)
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from cluster.jobs.submit import Submission
    from metatrain.evaluation.running.runner import Runner


@contextmanager
def require_extra(purpose: str) -> Iterator[None]:
    """Tell how to install a missing package that imports inside need.

    Args:
        purpose: the start of the error's sentence, such as "training".

    Raises:
        UserError: in place of ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{purpose} needs {error.name}; install it with pip install 'metatrain[cluster]'."
        ) from error


def _train(arguments: argparse.Namespace) -> None:
    from metatrain.config import load_config

    # Before Ray is imported, which takes longer than to refuse a configuration.
    config = load_config(arguments.config, arguments.overrides)
    with require_extra("training"):
        from cluster.run.launch import launch
    show(launch(config, wait=arguments.wait))


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    add_wait_argument(parser)


def _submit(arguments: argparse.Namespace) -> None:
    with require_extra("submitting"):
        from cluster.jobs.submit import training_job

    submit_from(arguments, training_job)


def submit_from(
    arguments: argparse.Namespace, build_job: "Callable[[str | None, Sequence[str]], Submission]"
) -> None:
    """Submit the job that `build_job` makes of the command line's file and overrides."""
    from cluster.jobs.submit import submit

    _silence_client()
    if arguments.list:
        _list_files(Path.cwd())
        return
    job = build_job(arguments.config, arguments.overrides)
    submit(job, arguments.address, wait=arguments.wait)


def _list_files(folder: Path) -> None:
    """Print the files that a job takes along, and a sentence for each that it may not.

    Raises:
        UserError: when one is refused, or they are too large.
    """
    from cluster.jobs.package import refuse_too_much, select

    sizes, refused = select(folder)
    for path, size in sizes.items():
        print(f"{size:>12,} {printable(str(path))}")
    for sentence in refused.values():
        print(f"{'refused':>12} {sentence}", flush=True)
    if refused:
        raise UserError(f"{counted(len(refused), 'file')} cannot go along, for the reasons above.")
    refuse_too_much(sizes, folder)


def _silence_client() -> None:
    """Disable Ray's client's log of every ignore file that it reads."""
    logging.disable(logging.INFO)


def _submit_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--address",
        metavar="URL",
        help="the cluster's dashboard (RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or "
        "http://127.0.0.1:8265)",
    )
    parser.add_argument(
        "--wait", action="store_true", help="follow the job, and exit with its status"
    )
    parser.add_argument(
        "--list", action="store_true", help="print the files that the job takes along; send nothing"
    )


def _doctor(arguments: argparse.Namespace) -> None:
    with require_extra("examining a cluster"):
        from cluster.doctor.doctor import doctor
        from cluster.jobs.submit import doctor_job, submit
    from metatrain.config import load_config

    file, overrides = arguments.config, arguments.overrides
    if arguments.address:
        _silence_client()
        submit(doctor_job(file, overrides), arguments.address, wait=True)
    else:
        doctor(load_config(file, overrides) if file or overrides else None)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser, help="settings of the run to check the cluster for")
    parser.add_argument(
        "--address",
        metavar="URL",
        help="a cluster's dashboard (the cluster at RAY_ADDRESS, or this machine)",
    )


def _leave(arguments: argparse.Namespace) -> None:
    with require_extra("leaving"):
        from cluster.run.leave import leave
    leave(arguments.within, arguments.node)


def _leave_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--within", type=float, default=100.0, metavar="S", help="seconds to save in (100)"
    )
    parser.add_argument(
        "--node", metavar="ID", help="one of the Ray nodes on this machine (all of them)"
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    evaluate.evaluate(arguments, _runner(arguments.workers, arguments.device))


def _calibrate(arguments: argparse.Namespace) -> None:
    calibrate.calibrate(arguments, _runner(arguments.workers, arguments.device))


def _codec(arguments: argparse.Namespace) -> None:
    codec.codec(arguments, _trainer(arguments))


def _distill(arguments: argparse.Namespace) -> None:
    distill.distill(arguments, _trainer(arguments))


def _trainer(arguments: argparse.Namespace) -> codec.Train | None:
    """Return training on the cluster at RAY_ADDRESS, or None where that is not set."""
    if address_to_join() is None:
        return None
    with require_extra("training"):
        from cluster.run.launch import launch

    return partial(launch, wait=arguments.wait)


def _runner(workers: int | None, device: str) -> "Runner | None":
    """Return a runner on the cluster at RAY_ADDRESS, or None where that is not set."""
    if address_to_join() is None:
        return None
    with require_extra("evaluating on a cluster"):
        from cluster.run.evaluation_pool import EvaluationPool

    return EvaluationPool(workers, device)


TRAIN = Command("Meta-train on Ray with DeepSpeed, or resume.", _train_arguments, _train)
SUBMIT = Command("Train as a job on a cluster, or resume.", _submit_arguments, _submit)
DOCTOR = Command("Check a cluster for problems that would fail a run.", _doctor_arguments, _doctor)
LEAVE = Command("Save the run, and remove this machine from the cluster.", _leave_arguments, _leave)
EVALUATE = Command(
    "Score models on unseen tasks, here or on a cluster.", evaluate.add_arguments, _evaluate
)
CODEC = Command("Train a codec, here or on a cluster.", codec.add_arguments, _codec)
DISTILL = Command(
    "Train a student that draws in few network calls, here or on a cluster.",
    distill.add_arguments,
    _distill,
)
CALIBRATE = Command(
    "Let a model predict its quality on new tasks.", calibrate.add_arguments, _calibrate
)
