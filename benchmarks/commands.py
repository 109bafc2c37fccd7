"""The commands of `metatrain`, as benchmarks run them."""

import subprocess
import sys
from pathlib import Path

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
