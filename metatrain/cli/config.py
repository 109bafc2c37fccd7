"""`metatrain config`."""

import argparse

from metatrain.cli.arguments import add_config_arguments
from metatrain.cli.command import Command

_NOTE = "# What differs from the defaults; `metatrain config --all` has every key."


def _config(arguments: argparse.Namespace) -> None:
    from metatrain.config import chosen, load_config, to_yaml

    config = load_config(arguments.config, arguments.overrides)
    if arguments.all:
        print(to_yaml(config), end="")
    else:
        print(f"{_NOTE}\n{to_yaml(config, chosen(config))}", end="")


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--all", action="store_true", help="print the defaults too")


CONFIG = Command("Print a configuration, with what its keys mean.", _config_arguments, _config)
