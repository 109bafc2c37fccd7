"""Measure the time of `metatrain evaluate` by phase.

    python -m benchmarks.evaluation.phases runs/demo --tasks 32 --seeds 1

Evaluates three times: from nothing, with the metric network alone, and with the samples too. The
differences are the phases. Prints the seconds on the clock, and those that all processes computed,
which other programs on the machine change little.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from metatrain.metrics.network import NETWORK

# The command beside the interpreter of the environment.
_COMMAND = str(Path(sys.executable).with_name("metatrain"))


class Spent(NamedTuple):
    """Seconds on the clock, and seconds computed by all processes."""

    wall: float
    computed: float

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall - other.wall, self.computed - other.computed)


def measure(model: str, options: Sequence[str]) -> dict[str, Spent]:
    """Evaluate the model at `model` three times, and return the time of each phase."""
    with TemporaryDirectory(prefix="metatrain-") as temporary:
        whole, network = Path(temporary, "whole"), Path(temporary, "network")
        everything = _evaluate(model, whole, options)
        network.mkdir()
        shutil.copy(whole / NETWORK, network)
        without_network = _evaluate(model, network, options)
        scoring = _evaluate(model, network, options)
    return {
        "metric network": everything - without_network,
        "adapting and sampling": without_network - scoring,
        "starting and scoring": scoring,
        "whole": everything,
    }


def _evaluate(model: str, out: Path, options: Sequence[str]) -> Spent:
    command = [_COMMAND, "evaluate", model, "--out", str(out), *options]
    started, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, os.times()
    computed = after.children_user + after.children_system
    return Spent(wall, computed - before.children_user - before.children_system)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", metavar="RUN", help="the folder of a finished run, or a name")
    arguments, options = parser.parse_known_args()
    print(f"{'phase':<24}{'seconds':>10}{'computed':>10}")
    for phase, spent in measure(arguments.model, options).items():
        print(f"{phase:<24}{spent.wall:>10.1f}{spent.computed:>10.1f}")


if __name__ == "__main__":
    main()
