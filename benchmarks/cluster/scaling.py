"""How training scales: `python -m benchmarks.cluster.scaling`.

Weak and strong scaling at 1 and 2 workers by real runs of the training command on this machine,
each worker with one processor; then a model of what is not here, 8 to 1,024 GPUs, by
`metatrain.plan`. Prints tables, writes JSON.
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

# Workers and episodes: against the first two, 2 workers on 4 episodes are weak and strong scaling.
_RUNS = ((1, 2), (1, 4), (2, 4))
_WARM = 10  # outer steps that are left out
_GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
# Episodes a GPU in weak scaling, and all of them in strong scaling.
_MODELS = {"large-100m": (8, 8192), "large-3b": (2, 2048)}


@dataclass(frozen=True)
class Run:
    """A run that was measured: means over its outer steps, in seconds a step.

    Attributes:
        workers: training workers.
        episodes: of an outer step.
        step: all of it, with the checkpoints' share.
        inner: in the outer gradient, on worker 0.
        engine: in collectives, the optimiser's step, and waiting for the other worker there.
        data: waiting for episodes.
        checkpoint: while the trainer waits for checkpoints.
    """

    workers: int
    episodes: int
    step: float
    inner: float
    engine: float
    data: float
    checkpoint: float


def measured_run(data: str, workers: int, episodes: int, steps: int) -> Run:
    """Train the demo's configuration for `steps` outer steps, in a folder that goes away."""
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
    """The runs, and what the second worker brings."""
    lines = [
        "| workers | episodes | ms a step | inner loop | engine | data | checkpoint |",
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
    """The plan of one of the large configurations on so many GPUs."""
    chosen = [f"cluster.workers={gpus}", f"meta.batch={episodes}"]
    return plan_of(load_config(f"configs/{name}.yaml", chosen), Hardware.h100(bf16=True))


def model_table(name: str) -> tuple[str, list[dict[str, float]]]:
    """Seconds an outer step on 8 to 1,024 GPUs, as a table and as rows."""
    each, fixed = _MODELS[name]
    rows: list[dict[str, float]] = []
    lines = [
        f"{name}: weak, {each} episodes a GPU; strong, {fixed:,} episodes",
        "",
        "| GPUs | memory GB | sent GB | weak: s | sending | efficiency | strong: s | efficiency |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for gpus in _GPUS:
        weak, strong = modelled(name, gpus, each * gpus), modelled(name, gpus, fixed)
        w, s = weak.pace(), strong.pace()
        row = {
            "gpus": gpus, "memory": weak.memory.peak, "sent": sum(g.sent for g in weak.legs),
            "weak": w.step, "wire": w.wire, "strong": s.step,
        }  # fmt: skip
        rows.append(row)
        kept = rows[0]["weak"] / w.step, rows[0]["strong"] * rows[0]["gpus"] / s.step / gpus
        cells = (row["memory"] / 1e9, row["sent"] / 1e9, w.step, w.wire / w.step, kept[0])
        every = (*cells, s.step, kept[1])
        written = " | ".join(f"{c:,.0f}" if c >= 100 else f"{c:.3g}" for c in every)
        lines.append(f"| {gpus:,} | {written} |")
    return "\n".join(lines), rows


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=100, help="outer steps of each run")
    parser.add_argument("--no-runs", dest="runs", action="store_false", help="the model alone")
    parser.add_argument("--json", type=Path, help="where to write it too")
    options = parser.parse_args()
    found = {"processors": os.cpu_count(), "runs": [], "models": {}}
    if options.runs:
        with tempfile.TemporaryDirectory() as folder:
            pack("glyphs", f"{folder}/data", size=28)
            runs = [measured_run(f"{folder}/data", *run, options.steps) for run in _RUNS]
        print(runs_table(runs), flush=True)
        found["runs"] = [asdict(run) for run in runs]
    for name in _MODELS:
        text, found["models"][name] = model_table(name)
        print(f"\n{text}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
