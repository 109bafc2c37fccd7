"""Bytes that workers send in an outer step: `python -m benchmarks.cluster.sent_bytes`.

Two processes over gloo run the real engine, learner and trainer, and every collective that torch
dispatches is counted as a ring, see `metatrain.plan.collectives`. Gloo and NCCL use their own
algorithms, and none sends less.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from benchmarks.cluster.worker import EnoughError, train
from metatrain.config import Config, load_config
from metatrain.model.build import build_theta
from metatrain.plan.collectives import transfers_of
from metatrain.plan.layout import layout_of
from metatrain.training.observer import Observer
from metatrain.training.state import Record

WORLD = 2
SMALL = ["data.image_size=8", "generator.width=8", "data.shots=3", "data.queries=3"]

# How many times (n - 1) / n of its size each of n workers sends, and the positions in torch's
# arguments of the tensors of this size and of the process group.
_RINGS = {
    "allreduce_": (2, 0, 1),
    "broadcast_": (1, 0, 1),
    "allgather_": (1, 0, 2),
    "_allgather_base_": (1, 0, 2),
    "reduce_scatter_": (1, 1, 2),
    "_reduce_scatter_base_": (1, 1, 2),
}


class Collective(NamedTuple):
    """Name of a collective, and the bytes that this worker sends in it."""

    name: str
    sent: float


class CollectiveRecorder(TorchDispatchMode):
    """Record of all collectives of this thread.

    Raises:
        KeyError: at a collective of an unknown kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.collectives: list[Collective] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, and record it if it is a collective."""
        name = func._schema.name
        if name.startswith("c10d::") and name != "c10d::barrier":
            self._record(name.removeprefix("c10d::"), args)
        return func(*args, **(kwargs or {}))

    def _record(self, name: str, args: Any) -> None:
        times, tensors, group = _RINGS[name]
        size = sum(t.nbytes for t in tree_leaves(args[tensors]) if isinstance(t, torch.Tensor))
        workers = dist.ProcessGroup.unbox(args[group]).size()
        self.collectives.append(Collective(name, times * (workers - 1) / workers * size))


class _SecondStep(Observer):
    """The collectives of the second outer step, when all optimiser states exist."""

    def __init__(self, recorder: CollectiveRecorder) -> None:
        self._recorder = recorder
        self.collectives: list[Collective] = []

    @override
    def on_step(self, step: int, record: Record) -> None:
        self.collectives, self._recorder.collectives = self._recorder.collectives, []
        if step == 2:
            raise EnoughError


def sent_in_a_step(configs: Sequence[Config]) -> list[list[Collective]]:
    """List the collectives of worker 0 of `WORLD` in an outer step of each of `configs`."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_worker, (folder, [c.model_dump(mode="json") for c in configs]), nprocs=WORLD)
        steps = json.loads(Path(f"{folder}/steps.json").read_text())
    return [[Collective(*values) for values in step] for step in steps]


def _worker(rank: int, folder: str, configs: list[dict[str, Any]]) -> None:
    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    steps = []
    for values in configs:
        with CollectiveRecorder() as recorder:
            second = _SecondStep(recorder)
            train(Config.model_validate(values), second)
        steps.append(second.collectives)
    if rank == 0:
        Path(f"{folder}/steps.json").write_text(json.dumps(steps))
    dist.destroy_process_group()


def main() -> None:
    """Measure three learners at four stages, and print a table."""
    cases = list(product(("reptile", "fomaml", "maml"), (0, 1, 2, 3)))
    configs = [case(learner, stage) for learner, stage in cases]
    with torch.device("meta"):
        count = sum(p.numel() for p in build_theta(configs[0]).named().values())
    print(f"{count:,} parameters, {WORLD} workers; MB that each sends in an outer step\n")
    print("| learner | stage | collectives | sent | planned | least |\n|---|--:|--:|--:|--:|--:|")
    for (learner, stage), config, step in zip(cases, configs, sent_in_a_step(configs), strict=True):
        layout = layout_of(config, WORLD, sharded=False)
        transfers = transfers_of(config, layout, count=count, passes=0)
        planned = sum(t.sent for t in transfers), sum(t.least for t in transfers)
        sizes = (sum(collective.sent for collective in step), *planned)
        megabytes = " | ".join(f"{size / 1e6:.3f}" for size in sizes)
        print(f"| {learner} | {stage} | {len(step)} | {megabytes} |", flush=True)


def case(learner: str, stage: int, inner_steps: int = 2) -> Config:
    """Load a small configuration; at stage 3 the inner loop is gathered."""
    chosen = [f"learner.name={learner}", f"cluster.zero_stage={stage}"]
    chosen += ["cluster.inner_loop=gathered"] if stage == 3 else []
    return load_config(None, [*SMALL, *chosen, f"inner.steps={inner_steps}"])


if __name__ == "__main__":
    sys.exit(main())
