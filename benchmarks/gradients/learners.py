"""The cost of an outer gradient: `python -m benchmarks.gradients.learners`.

Prints for every case each system's CPU and wall time, the ratios of its time to the plain bound's
and to learn2learn's, its peak memory and its error; `--json` writes the same. A short run:

    python -m benchmarks.gradients.learners --networks unet --steps 5 --tasks 1 --no-memory
"""

import argparse
import json
import platform
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from benchmarks.gradients.cases import LR, QUERIES, SHOTS, Case
from benchmarks.gradients.measure import exact_gradient, progress, relative_error, times
from benchmarks.gradients.memory import peak_memory
from benchmarks.gradients.networks import NETWORKS
from benchmarks.gradients.systems import bound_of, names, system

HEADER = ("system", "CPU ms", "wall ms", "/ bound", "/ learn2learn", "peak MiB", "error")
DEFAULT = ["bound/*", "learn2learn", "higher", "torchopt", "maml/*", "fomaml", "reptile", "joint"]


def main() -> None:
    """Measure every case, print its table, write the results."""
    options = _options()
    torch.set_num_threads(1)
    cases = [
        Case(network, steps, tasks)
        for network in options.networks
        for steps in options.steps
        for tasks in options.tasks
    ]
    results = {"machine": _machine(), "cases": []}
    for case in cases:
        results["cases"].append(rows_of(case, options))
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")


def rows_of(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one case and print its table; return the rows."""
    chosen = [n for n in names() if any(fnmatch(n, pattern) for pattern in options.systems)]
    systems = {name: system(name, case) for name in chosen}
    gradients = {name: systems[name]() for name in progress(chosen, "first runs")}
    measured = times(systems, options.repeats)
    exact = exact_gradient(case)
    weights = sum(p.numel() for p in exact.values())
    rows = []
    for name in progress(chosen, "peak memory") if options.memory else chosen:
        bound, peer = measured.get(bound_of(name)), measured.get("learn2learn")
        same = name.startswith("maml/") or name in ("learn2learn", "higher", "torchopt")
        rows.append(
            {
                "system": name,
                "cpu_s": measured[name].cpu,
                "wall_s": measured[name].wall,
                "over_bound": measured[name].cpu / bound.cpu if bound else None,
                "over_learn2learn": measured[name].cpu / peer.cpu if peer else None,
                "peak_mib": peak_memory(name, case) if options.memory else None,
                "error": relative_error(gradients[name], exact) if same else None,
            }
        )
    title = f"{case.network}, k = {case.steps}, {case.tasks} tasks, {weights} parameters"
    print(f"\n{title}\n\n{_table(rows)}", flush=True)
    about = {"network": case.network, "steps": case.steps, "tasks": case.tasks}
    return {**about, "parameters": weights, "systems": rows}


def _table(rows: list[dict[str, Any]]) -> str:
    def cell(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    lines = [HEADER, ("---", *["--:"] * (len(HEADER) - 1))]
    for row in rows:
        milliseconds = (cell(1e3 * row[key], ".1f") for key in ("cpu_s", "wall_s"))
        ratios = (cell(row[key], ".2f") for key in ("over_bound", "over_learn2learn"))
        rest = cell(row["peak_mib"], ".1f"), cell(row["error"], ".1e")
        lines.append((row["system"], *milliseconds, *ratios, *rest))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _machine() -> dict[str, Any]:
    model = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processor": model[0].partition(":")[2].strip() if model else platform.processor(),
        "cores": len(model),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "support": SHOTS,
        "query": QUERIES,
        "inner_lr": LR,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    add("--steps", nargs="+", type=int, default=[1, 5, 10, 20], help="inner steps k")
    add("--tasks", nargs="+", type=int, default=[1, 4])
    add("--systems", nargs="+", default=DEFAULT, help=f"patterns over {', '.join(names())}")
    add("--repeats", type=int, default=7)
    add("--no-memory", dest="memory", action="store_false")
    add("--json", type=Path, help="file to write the results to")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
