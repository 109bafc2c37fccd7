"""The commands of `metatrain` that benchmarks run, and benchmarks as commands."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.base.progress import StreamDisplay, displayed

# The command beside the interpreter of the environment.
_COMMAND = str(Path(sys.executable).with_name("metatrain"))


def metatrain(*arguments: str) -> None:
    """Run a command of `metatrain`; end this process where it fails, since it prints the reason."""
    print("$ metatrain", *arguments, flush=True)
    code = subprocess.run([_COMMAND, *arguments]).returncode
    if code:
        raise SystemExit(code)


def pack(source: str, folder: str, *options: str) -> None:
    """Pack a benchmark to `folder`, if it is not packed yet."""
    if not Path(folder, "manifest.parquet").exists():
        metatrain("pack", source, folder, *options)


def resumable(run: Callable[[], None]) -> int:
    """Run a benchmark that continues where it was interrupted; return its exit status."""
    try:
        with displayed(StreamDisplay(sys.stderr)):
            run()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command resumes.", file=sys.stderr)
        return 130
    return 0
