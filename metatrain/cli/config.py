"""`metatrain config`."""

import argparse

from metatrain.cli.command import Command


def _config(arguments: argparse.Namespace) -> None:
    from metatrain.config import load_config, to_yaml

    given = [arguments.config] if arguments.config else []
    # Without a file, the first override stands where the file would.
    path = given.pop() if given and "=" not in given[0] else None
    print(to_yaml(load_config(path, given + arguments.overrides)), end="")


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="YAML file; none: the defaults")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as inner.lr=0.01")


CONFIG = Command("Print the whole configuration, resolved.", _config_arguments, _config)
