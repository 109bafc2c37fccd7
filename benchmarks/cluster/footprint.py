"""Peak memory of every worker of a run, compared with the plan.

    python -m benchmarks.cluster.footprint                    # the table of docs/scaling.md
    python -m benchmarks.cluster.footprint CONFIG [KEY=VALUE ...]

One fresh process per worker, over gloo, runs the engine, the learner and the trainer of the
configuration on random images. Malloc returns every freed tensor to the system, and a small run
first loads and compiles code. The measure is the rise of the resident set's peak after that: the
memory of living tensors.
"""

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import torch

from benchmarks.cluster.worker import Stop, train
from benchmarks.gradients.memory import give_memory_back, peak_reset, resident
from metatrain.config import load_config
from metatrain.plan.hardware import this_machine
from metatrain.plan.plan import plan_of

# The optimiser's state and the learner's memory exist after the first step.
STEPS = 2
_SMALL = ["data.image_size=8", "generator.width=8"]

_DEMO = "configs/demo.yaml"
_WIDE = ["generator.width=128"]
# What is measured by default: changes of configs/demo.yaml by their descriptions.
CASES = {
    "nothing else (stage 1)": [],
    "U-Net of 6.4 M, stage 0": [*_WIDE, "cluster.zero_stage=0"],
    "U-Net of 6.4 M, stage 1": _WIDE,
    "U-Net of 6.4 M, stage 1, one worker": [*_WIDE, "cluster.workers=1"],
    "U-Net of 6.4 M, stage 3, gathered": [
        *_WIDE, "cluster.zero_stage=3", "cluster.inner_loop=gathered",
    ],
    "U-Net of 6.4 M, stage 3, sharded": [
        *_WIDE, "cluster.zero_stage=3", "cluster.inner_loop=sharded",
    ],
    "DiT, MAML, k = 2, 32 pixels, stage 2, one worker": [
        "generator.name=dit", "generator.width=192", "data.image_size=32", "learner.name=maml",
        "inner.steps=2", "cluster.workers=1", "cluster.zero_stage=2",
    ],
    "U-Net of 3.6 M, FOMAML, post-hoc averages, stage 0": [
        "generator.width=96", "learner.name=fomaml", "meta.post_hoc=true", "cluster.zero_stage=0",
    ],
}  # fmt: skip


def measured(config: str, overrides: Sequence[str] = ()) -> list[int]:
    """Measure the peak bytes of each worker of a configuration, without code."""
    world = load_config(config, overrides).cluster.workers
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.cluster.footprint", config, *overrides]
        ranks = [{"LOCAL_RANK": str(rank), "STORE": f"{folder}/store"} for rank in range(world)]
        environment = os.environ | give_memory_back() | {"DS_ACCELERATOR": "cpu"}
        workers = [
            subprocess.Popen(command, env=environment | rank, stdout=subprocess.PIPE, text=True)
            for rank in ranks
        ]
        outputs = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError("a worker failed; see its output above")
    return [int(text.splitlines()[-1]) for text in outputs]


def _rise(path: str, overrides: Sequence[str]) -> int:
    """Return the bytes by which the peak rises in a run."""
    train(load_config(path, [*overrides, *_SMALL]), Stop(STEPS))
    gc.collect()
    peak_reset()
    before = resident("VmRSS")
    train(load_config(path, overrides), Stop(STEPS))
    return 1024 * (resident("VmHWM") - before)


def _worker(path: str, overrides: Sequence[str]) -> None:
    torch.set_num_threads(1)
    rank, store = int(os.environ["LOCAL_RANK"]), os.environ["STORE"]
    world = load_config(path, overrides).cluster.workers
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world
    )
    print(_rise(path, overrides), flush=True)
    torch.distributed.destroy_process_group()


def main(path: str, overrides: Sequence[str]) -> None:
    """Print the planned and the measured peaks of a configuration."""
    for rank, used in enumerate(measured(path, overrides)):
        print(f"worker {rank}: {used / 1e6:.1f} MB, planned {_planned(path, overrides):.1f} MB")


def table() -> None:
    """Print the peaks of all cases, the higher one of the workers."""
    print(f"| {_DEMO} with | measured, MB | planned, MB |\n|---|--:|--:|")
    for about, overrides in CASES.items():
        used = max(measured(_DEMO, overrides)) / 1e6
        print(f"| {about} | {used:.1f} | {_planned(_DEMO, overrides):.1f} |", flush=True)


def _planned(path: str, overrides: Sequence[str]) -> float:
    config = load_config(path, overrides)
    return plan_of(config, this_machine(config.cluster.workers)).memory.peak / 1e6


if __name__ == "__main__":
    if len(sys.argv) == 1:
        table()
    else:
        (_worker if "STORE" in os.environ else main)(sys.argv[1], sys.argv[2:])
