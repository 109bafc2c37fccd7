"""What a sweep costs beside its trials: `python -m benchmarks.search.tuning`.

Runs the same trials twice, in a sweep without early stopping and one after the other by the
training command, and compares the time from start to end; and takes the time from the command to
the first trial's first step. Prints a table, writes JSON.
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
from tuning.ledger import read_records, trial_name

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


@dataclass(frozen=True)
class Found:
    """Seconds, by the wall clock.

    Attributes:
        trials: how many.
        at_once: how many the sweep ran side by side.
        sweep: from the command to the report.
        first_step: from the command to a trial that takes steps.
        alone: each trial by `python -m cluster train`, one after the other, its start included.
    """

    trials: int
    at_once: int
    sweep: float
    first_step: float
    alone: list[float]

    @property
    def overhead(self) -> float:
        """Of the sweep over its trials, one after the other on the same machine."""
        return self.sweep / sum(self.alone) - 1


def timed_sweep(file: Path) -> tuple[float, float, int]:
    """Seconds of the sweep and until its first trial trains, and how many ran at once."""
    # What a run keeps before it takes its first step.
    begun = CheckpointStore(f"{load_sweep(str(file)).settings.url}/runs/{trial_name(0)}")
    said = file.with_suffix(".log")
    command = [sys.executable, "-m", "tuning", "sweep", str(file)]
    started, first = time.monotonic(), 0.0
    with said.open("w") as output, subprocess.Popen(command, stdout=output) as process:
        while process.poll() is None:
            if not first and begun.steps():
                first = time.monotonic() - started
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit("the sweep failed")
    at_once = int(said.read_text().partition(" trials, ")[2].split()[0])
    return time.monotonic() - started, first, at_once


def timed_alone(file: Path, number: int, folder: str) -> float:
    """Seconds of one of the sweep's trials by itself."""
    chosen = load_sweep(str(file))
    [record] = [r for r in read_records(chosen.settings.url) if r.number == number]
    config = chosen.config(record.values, f"alone-{number}")
    path = Path(folder) / f"alone-{number}.json"
    path.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "cluster", "train", str(path), f"run.dir={folder}"]
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=8, help="trials (8)")
    parser.add_argument("--steps", type=int, default=200, help="outer steps of each (200)")
    parser.add_argument("--json", type=Path, help="where to write it too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pack("glyphs", f"{folder}/data", size=28)
        file = Path(folder) / "sweep.yaml"
        values = {"data": f"{folder}/data", "steps": options.steps, "trials": options.trials}
        file.write_text(_SWEEP.format(folder=folder, workers=os.cpu_count(), **values))
        # Trained once for a data set, in a sweep or not.
        base = load_sweep(str(file)).base
        assert base.validation.network
        shape = {"image_size": base.data.image_size, "channels": base.data.channels}
        metric_network(EpisodeStore(base.data.path), base.validation.network, **shape)
        total, first, at_once = timed_sweep(file)
        numbers = progress(range(options.trials), "alone")
        alone = [timed_alone(file, number, folder) for number in numbers]
    found = Found(options.trials, at_once, total, first, alone)
    print(
        f"| trials | at once | sweep s | one after the other s | overhead | to the first step s |\n"
        f"|--:|--:|--:|--:|--:|--:|\n"
        f"| {found.trials} | {found.at_once} | {found.sweep:.0f} | {sum(found.alone):.0f} | "
        f"{found.overhead:.1%} | {found.first_step:.0f} |"
    )
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
