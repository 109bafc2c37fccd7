"""The entry point of the console command."""

import sys
from importlib.metadata import entry_points

from metatrain.cli.command import run


def main() -> None:
    """Entry point of the console command: our own commands and those of the packages above us."""
    from metatrain.cli.commands import COMMANDS

    above = {entry.name: entry.load() for entry in entry_points(group="metatrain.commands")}
    sys.exit(run("metatrain", COMMANDS | above))
