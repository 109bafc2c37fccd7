"""Measure the overhead of a sweep over its trials: `python -m benchmarks.search.tuning`.

Runs the same trials twice, in a sweep without early stopping and one after the other by the
training command, and compares the times from start to end; measures also the time from the command
to the first step of the first trial. Prints a table, writes JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gradients.measure import progress
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.metrics.network import metric_network
from metatrain.training.checkpoint import CheckpointStore
from tuning.config import load_sweep
from tuning.ledger import read_record, trial_name

_SWEEP = """
name: sweep
dir: {folder}
base: configs/demo.yaml
overrides:
  data.path: {data}
  meta.steps: {steps}
  cluster.workers: {workers}
  validation: {{tasks: 4, points: 4}}
space:
  inner.lr: {{loguniform: [3.0e-4, 3.0e-3]}}
searcher: random
scheduler: {{name: none, looks: 2}}
budget: {{trials: {trials}}}
"""


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Wall-clock times in seconds.

    Attributes:
        trials: the number of trials.
        concurrent: the number of trials that the sweep ran side by side.
        sweep: from the command to the report.
        first_step: from the command to the first step of a trial.
        alone: of each trial by `python -m cluster train`, including its start.
    """

    trials: int
    concurrent: int
    sweep: float
    first_step: float
    alone: list[float]

    @property
    def overhead(self) -> float:
        """The time of the sweep over that of its trials one after the other, minus 1."""
        return self.sweep / sum(self.alone) - 1


def time_sweep(file: Path) -> tuple[float, float, int]:
    """Time the sweep and its first step, in seconds; returns also its concurrent trials."""
    # A run writes a checkpoint before its first step.
    checkpoints = CheckpointStore(f"{load_sweep(str(file)).settings.url}/runs/{trial_name(0)}")
    log = file.with_suffix(".log")
    command = [sys.executable, "-m", "tuning", "sweep", str(file)]
    started, first = time.monotonic(), 0.0
    with log.open("w") as output, subprocess.Popen(command, stdout=output) as process:
        while process.poll() is None:
            if not first and checkpoints.steps():
                first = time.monotonic() - started
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit("the sweep failed")
    concurrent = int(log.read_text().partition(" trials, ")[2].split()[0])
    return time.monotonic() - started, first, concurrent


def time_alone(file: Path, number: int, folder: str) -> float:
    """Time one of the sweep's trials by itself, in seconds."""
    sweep = load_sweep(str(file))
    record = read_record(sweep.settings.url, number)
    config = sweep.config(record.values, f"alone-{number}")
    path = Path(folder) / f"alone-{number}.json"
    path.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "cluster", "train", str(path), f"run.dir={folder}"]
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    """Run all trials twice, print the table, and write the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=8, help="trials (8)")
    parser.add_argument("--steps", type=int, default=200, help="outer steps of each (200)")
    parser.add_argument("--json", type=Path, help="JSON file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pack("glyphs", f"{folder}/data", size=28)
        file = Path(folder) / "sweep.yaml"
        values = {"data": f"{folder}/data", "steps": options.steps, "trials": options.trials}
        file.write_text(_SWEEP.format(folder=folder, workers=os.cpu_count(), **values))
        # Before the clock starts: both ways need the metric network once.
        base = load_sweep(str(file)).base
        assert base.validation.network
        metric_network(
            EpisodeStore(base.data.path),
            base.validation.network,
            image_size=base.data.image_size,
            channels=base.data.channels,
        )
        total, first, concurrent = time_sweep(file)
        numbers = progress(range(options.trials), "alone")
        alone = [time_alone(file, number, folder) for number in numbers]
    timings = Timings(
        trials=options.trials, concurrent=concurrent, sweep=total, first_step=first, alone=alone
    )
    alone_total = sum(timings.alone)
    print(
        f"| trials | concurrent | sweep s | one by one s | overhead | to the first step s |\n"
        f"|--:|--:|--:|--:|--:|--:|\n"
        f"| {timings.trials} | {timings.concurrent} | {timings.sweep:.0f} | {alone_total:.0f} | "
        f"{timings.overhead:.1%} | {timings.first_step:.0f} |"
    )
    if options.json:
        options.json.write_text(json.dumps(asdict(timings), indent=1) + "\n")


if __name__ == "__main__":
    main()
