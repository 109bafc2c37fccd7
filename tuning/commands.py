"""The command that this package adds to `metatrain`."""

import argparse

from metatrain.cli import Command
from metatrain.errors import UserError


def _sweep(arguments: argparse.Namespace) -> None:
    try:
        from tuning.sweep import sweep
    except ModuleNotFoundError as error:
        raise UserError(
            f"a sweep needs {error.name}; install it with pip install 'metatrain[cluster]'."
        ) from error
    from tuning.config import load_sweep

    print(sweep(load_sweep(arguments.sweep, arguments.overrides)))


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="SWEEP", help="YAML file: a path or any fsspec URL")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="of the sweep, such as budget.trials=40, or of its base, such as meta.steps=500",
    )


SWEEP = Command("Search the best inner rate, steps and more.", _sweep_arguments, _sweep)
