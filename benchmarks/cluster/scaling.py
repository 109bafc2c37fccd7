"""Scaling of training: `python -m benchmarks.cluster.scaling`.

Weak and strong scaling at 1 and 2 workers by real runs of the training command on this machine,
each worker with one processor; then, by `metatrain.plan`, a model of 8 to 1,024 GPUs. Prints
tables, writes JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from metatrain.config import load_config
from metatrain.data.packing.pack import pack
from metatrain.plan.hardware import Hardware
from metatrain.plan.plan import Plan, plan_of
from metatrain.training.checkpoint import CheckpointStore

# Workers and episodes. 2 workers on 4 episodes are weak and strong scaling of the first two.
_RUNS = ((1, 2), (1, 4), (2, 4))
_WARM = 10  # first outer steps, which are not counted
_GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
# Episodes per GPU in weak scaling, and of all GPUs in strong scaling.
_MODELS = {"large-100m": (8, 8192), "large-3b": (2, 2048)}


@dataclass(frozen=True)
class Run:
    """Measured run: mean seconds per outer step.

    Attributes:
        workers: number of workers.
        episodes: episodes per outer step.
        step: all of the step, with its share of checkpoints.
        inner: the outer gradient, on worker 0.
        engine: collectives, with waiting for the other worker, and the optimiser's step.
        data: waiting for episodes.
        checkpoint: waiting for checkpoints.
    """

    workers: int
    episodes: int
    step: float
    inner: float
    engine: float
    data: float
    checkpoint: float


def measured_run(data: str, workers: int, episodes: int, steps: int) -> Run:
    """Train the demo's configuration for `steps` outer steps, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"run.dir={folder}", f"data.path={data}", f"cluster.workers={workers}",
            f"meta.batch={episodes}", f"meta.steps={steps}", f"checkpoint.every={steps // 2}",
            "checkpoint.samples=false",
        ]  # fmt: skip
        command = [sys.executable, "-m", "cluster", "train", "configs/demo.yaml", *overrides]
        subprocess.run(command, check=True, stdout=sys.stderr)
        url = load_config("configs/demo.yaml", overrides).run.url
        history = CheckpointStore(url).history()[_WARM:]

    def mean(key: str) -> float:
        return statistics.fmean(record[key] for record in history)

    checkpoint = mean("seconds_checkpoint")
    data_wait = statistics.fmean(r["data_wait"] * r["seconds"] for r in history)
    parts = mean("seconds_inner"), mean("seconds_engine"), data_wait, checkpoint
    return Run(workers, episodes, mean("seconds") + checkpoint, *parts)


def runs_table(runs: list[Run]) -> str:
    """Format the runs, and the efficiency of the second worker."""
    lines = [
        "| workers | episodes | ms per step | inner loop | engine | data | checkpoint |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        times = (run.step, run.inner, run.engine, run.data, run.checkpoint)
        cells = " | ".join(f"{1e3 * seconds:.1f}" for seconds in times)
        lines.append(f"| {run.workers} | {run.episodes} | {cells} |")
    by = {(run.workers, run.episodes): run.step for run in runs}
    weak, strong = by[1, 2] / by[2, 4], by[1, 4] / by[2, 4] / 2
    return "\n".join([*lines, "", f"Efficiency of 2 workers: weak {weak:.2f}, strong {strong:.2f}"])


def modelled(name: str, gpus: int, episodes: int) -> Plan:
    """Plan one of the large configurations."""
    chosen = [f"cluster.workers={gpus}", f"meta.batch={episodes}"]
    return plan_of(load_config(f"configs/{name}.yaml", chosen), Hardware.h100(bf16=True))


def model_table(name: str) -> tuple[str, list[dict[str, float]]]:
    """Predict outer steps on 8 to 1,024 GPUs, as a table and as rows."""
    each, fixed = _MODELS[name]
    rows: list[dict[str, float]] = []
    lines = [
        f"{name}: weak, {each} episodes per GPU; strong, {fixed:,} episodes",
        "",
        "| GPUs | memory GB | sent GB | weak: s | sending | efficiency | strong: s | efficiency |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for gpus in _GPUS:
        weak, strong = modelled(name, gpus, each * gpus), modelled(name, gpus, fixed)
        w, s = weak.step_time(), strong.step_time()
        row = {
            "gpus": gpus, "memory": weak.memory.peak, "sent": sum(t.sent for t in weak.transfers),
            "weak": w.total, "sending": w.sending, "strong": s.total,
        }  # fmt: skip
        rows.append(row)
        weakly = rows[0]["weak"] / w.total
        strongly = rows[0]["strong"] * rows[0]["gpus"] / s.total / gpus
        sizes, sending = (row["memory"] / 1e9, row["sent"] / 1e9), w.sending / w.total
        cells = (*sizes, w.total, sending, weakly, s.total, strongly)
        text = " | ".join(f"{c:,.0f}" if c >= 100 else f"{c:.3g}" for c in cells)
        lines.append(f"| {gpus:,} | {text} |")
    return "\n".join(lines), rows


def main() -> None:
    """Measure, predict, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=100, help="outer steps of each run")
    parser.add_argument("--no-runs", dest="runs", action="store_false", help="only the model")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    results = {"processors": os.cpu_count(), "runs": [], "models": {}}
    if options.runs:
        with tempfile.TemporaryDirectory() as folder:
            pack("glyphs", f"{folder}/data", size=28)
            runs = [measured_run(f"{folder}/data", *run, options.steps) for run in _RUNS]
        print(runs_table(runs), flush=True)
        results["runs"] = [asdict(run) for run in runs]
    for name in _MODELS:
        text, results["models"][name] = model_table(name)
        print(f"\n{text}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
