"""The commands that this package adds to `metatrain`."""

import argparse
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli import calibrate, evaluate
from metatrain.cli.arguments import add_config_arguments
from metatrain.cli.command import Command

if TYPE_CHECKING:
    from cluster.jobs.submit import Work
    from metatrain.evaluation.running.runner import Runner


@contextmanager
def installed(what: str) -> Iterator[None]:
    """Say what to install where `what` needs a package that is not there.

    Raises:
        UserError: in place of ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} needs {error.name}; install it with pip install 'metatrain[cluster]'."
        ) from error


def _train(arguments: argparse.Namespace) -> None:
    with installed("training"):
        from cluster.run.launch import launch
    from metatrain.config import load_config

    print(launch(load_config(arguments.config, arguments.overrides)))


def _submit(arguments: argparse.Namespace) -> None:
    with installed("submitting"):
        from cluster.jobs.submit import training

    submit_work(arguments, training)


def submit_work(
    arguments: argparse.Namespace, work_of: "Callable[[str, Sequence[str]], Work]"
) -> None:
    """Submit what `work_of` makes of the file and the overrides that were given."""
    from cluster.jobs.submit import submit

    logging.disable(logging.INFO)  # Ray's client tells of every file that says what to leave out
    work = work_of(arguments.config, arguments.overrides)
    submit(work, arguments.address, wait=arguments.wait)


def _submit_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    _add_address(parser)
    parser.add_argument(
        "--wait", action="store_true", help="follow the job, and end with its exit status"
    )


def _doctor(arguments: argparse.Namespace) -> None:
    with installed("examining a cluster"):
        from cluster.doctor.doctor import doctor
        from cluster.jobs.submit import examination, submit
    from metatrain.config import load_config

    file, overrides = arguments.config, arguments.overrides
    if arguments.address:
        logging.disable(logging.INFO)
        submit(examination(file, overrides), arguments.address, wait=True)
    else:
        doctor(load_config(file, overrides) if file else None)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="of a run that it is to take")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as meta.batch=8")
    parser.add_argument(
        "--address",
        metavar="URL",
        help="of a cluster's dashboard; without it, the cluster at RAY_ADDRESS, or this machine",
    )


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        metavar="URL",
        help="of the cluster's dashboard (RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or "
        "http://127.0.0.1:8265)",
    )


def _leave(arguments: argparse.Namespace) -> None:
    with installed("leaving"):
        from cluster.run.leave import leave
    leave(arguments.within, arguments.node)


def _leave_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--within", type=float, default=100.0, metavar="S", help="seconds for saving (100)"
    )
    parser.add_argument(
        "--node", metavar="ID", help="that of this machine's nodes of Ray; without it, all"
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    evaluate.evaluate(arguments, _runner(arguments.workers))


def _calibrate(arguments: argparse.Namespace) -> None:
    calibrate.calibrate(arguments, _runner(arguments.workers))


def _runner(workers: int | None) -> "Runner | None":
    """Return a runner on the cluster at RAY_ADDRESS, or None where that is not set."""
    if "RAY_ADDRESS" not in os.environ:
        return None
    with installed("evaluating on a cluster"):
        from cluster.run.evaluation_pool import OnRay

    return OnRay(workers)


TRAIN = Command("Meta-train on Ray with DeepSpeed, or resume.", add_config_arguments, _train)
DOCTOR = Command("Say what on a cluster would fail a run.", _doctor_arguments, _doctor)
SUBMIT = Command("Train as a job on a cluster, or resume.", _submit_arguments, _submit)
LEAVE = Command("Save, and take this machine out of the cluster.", _leave_arguments, _leave)
EVALUATE = Command(
    "Score models on unseen tasks, here or on a cluster.", evaluate.add_arguments, _evaluate
)
CALIBRATE = Command(
    "Let a model predict its quality on new tasks.", calibrate.add_arguments, _calibrate
)
