"""The one console command, `metatrain`, and what a command is.

Nothing heavy is imported until a command runs, so that `metatrain --help` answers at once.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metatrain import __version__
from metatrain.base.errors import UserError


@dataclass(frozen=True)
class Command:
    """A subcommand: its one-line help, its arguments, and what it does."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def run(program: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, run the command it names, and return the process's exit status.

    0 when the command succeeded, the error's own, 1 as a rule, when it failed with a sentence, 130
    when it was interrupted; argparse itself exits with 2 on wrong usage.
    """
    parser = argparse.ArgumentParser(prog=program, description="Few-shot image generation.")
    parser.add_argument("--version", action="version", version=f"metatrain {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in commands.items():
        subparser = subparsers.add_parser(name, help=command.help, description=command.help)
        command.arguments(subparser)
        subparser.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as interrupt:
        print(
            f"\n{program}: interrupted{f'; {interrupt}' if interrupt.args else ''}.",
            file=sys.stderr,
        )
        return 130
    return 0
