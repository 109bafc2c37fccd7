"""The console command: parses arguments, runs a command, and prints what it cannot do.

Nothing heavy is imported until a command runs, so that `metatrain --help` answers at once.
"""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from metatrain import __version__
from metatrain.base.errors import HeldError, MissingStepError, Step, UntrustedError, UserError
from metatrain.base.progress import StreamDisplay, displayed
from metatrain.base.text import printable_lines
from metatrain.cli.arguments import place_words
from metatrain.cli.interruption import Interruption

# The command that takes a step, as an error tells it.
_COMMANDS: Mapping[Step, str] = {
    "pack": "metatrain pack SOURCE DEST",
    "train": "metatrain train CONFIG",
    "adapt": "metatrain adapt CHECKPOINT IMAGES_DIR --out DIR",
    "evaluate": "metatrain evaluate CHECKPOINT ...",
    "calibrate": "metatrain calibrate CHECKPOINT",
}


@dataclass(frozen=True)
class Command:
    """A subcommand: its help in one line, its arguments, and the function that runs it."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def run(program: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, run the command that it names, and return the exit status of the process.

    The status is 0 after success, the error's own (1 by default) after a `UserError`, 130 or 143
    after an interruption by Ctrl-C or SIGTERM, and 141 when nobody reads the output any more, as
    after SIGPIPE; argparse itself exits with 2 on wrong usage.
    """
    # Torch reads it when a command imports it. Threads that wait actively for each other take the
    # cores that they wait for: beside other work, an inner step on 2 threads took 16 times the CPU.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = parse(program, commands, argv)
    interruption = Interruption()
    try:
        with interruption.handled(), displayed(StreamDisplay(sys.stderr)):
            arguments.run(arguments)
            sys.stdout.flush()
    except UserError as error:
        print(printable_lines(f"{program}: {sentence_of(error, vars(arguments))}"), file=sys.stderr)
        return error.status
    except KeyboardInterrupt as interrupt:
        print(
            f"\n{program}: interrupted{f'; {interrupt}' if interrupt.args else ''}.",
            file=sys.stderr,
        )
        return interruption.status
    except BrokenPipeError:
        # Or Python would report the same once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        print(f"{program}: {_few_files(error)}", file=sys.stderr)
        return 1
    return 0


def parse(
    program: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse `argv` into a command's arguments, with the command itself as `run`."""
    parser = argparse.ArgumentParser(prog=program, description="Few-shot image generation.")
    parser.add_argument("--version", action="version", version=f"metatrain {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in commands.items():
        subparser = subparsers.add_parser(name, help=command.help, description=command.help)
        command.arguments(subparser)
        subparser.set_defaults(run=command.run, refuse=subparser.error)
    arguments, further = parser.parse_known_args(argv)
    if unplaced := place_words(arguments, further):
        arguments.refuse(f"unrecognized arguments: {' '.join(unplaced)}")
    return arguments


def show(text: object, end: str = "\n") -> None:
    """Print text, with whatever strangers wrote in it, as no more than lines."""
    print(printable_lines(str(text)), end=end, flush=True)


def _few_files(error: OSError) -> str:
    return f"no more files can be opened ({error.strerror}); raise the limit: ulimit -n 4096"


def sentence_of(error: UserError, options: Collection[str] = ()) -> str:
    """Return the sentence of an error, with the command or the option that mends it.

    Args:
        error: the error.
        options: the options that the command has.
    """
    if isinstance(error, MissingStepError):
        return f"{str(error).rstrip('.')}: run {_COMMANDS[error.step]}"
    if isinstance(error, HeldError) and "wait" in options:
        return f"{error} With --wait, this command waits."
    if isinstance(error, UntrustedError) and "trust" in options:
        return f"{error} With --trust, this command trusts it."
    return str(error)
