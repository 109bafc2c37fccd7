"""The commands that this package adds to `metatrain`."""

import argparse

from metatrain.cli import Command
from metatrain.commands import add_config_arguments
from metatrain.errors import UserError


def _train(arguments: argparse.Namespace) -> None:
    try:
        from cluster.launch import launch
    except ModuleNotFoundError as error:
        raise UserError(
            f"training needs {error.name}; install it with pip install 'metatrain[cluster]'."
        ) from error
    from metatrain.config import load_config

    print(launch(load_config(arguments.config, arguments.overrides)))


TRAIN = Command("Meta-train on Ray with DeepSpeed, or resume.", add_config_arguments, _train)
