"""The commands that this package adds to `metatrain`."""

import argparse

from cluster import commands as below
from metatrain.cli.arguments import add_config_arguments, add_wait_argument
from metatrain.cli.command import Command, show


def _sweep(arguments: argparse.Namespace) -> None:
    with below.require_extra("a sweep"):
        from tuning.config import load_sweep

        # Before Ray is imported, so that a mistake in the file is reported at once.
        sweep = load_sweep(arguments.config, arguments.overrides)

        from tuning.sweep import run_sweep

    show(run_sweep(sweep, wait=arguments.wait))


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(
        parser,
        "SWEEP",
        help="overrides of the sweep, such as budget.trials=40, or of its base, such as "
        "meta.steps=500",
    )
    add_wait_argument(parser)


def _submit(arguments: argparse.Namespace) -> None:
    if not arguments.sweep:
        below.SUBMIT.run(arguments)
        return
    with below.require_extra("submitting a sweep"):
        from tuning.submit import sweep_job

    below.submit_from(arguments, sweep_job)


def _submit_arguments(parser: argparse.ArgumentParser) -> None:
    below.SUBMIT.arguments(parser)
    parser.add_argument("--sweep", action="store_true", help="CONFIG is the file of a sweep")


SWEEP = Command("Search for the best inner rate, steps and more.", _sweep_arguments, _sweep)
SUBMIT = Command("Train or sweep as a job on a cluster, or resume.", _submit_arguments, _submit)
