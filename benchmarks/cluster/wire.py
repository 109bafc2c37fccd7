"""Bytes that workers really send in an outer step: `python -m benchmarks.cluster.wire`.

Two processes over gloo run the real engine, learner and trainer, and every collective that torch
dispatches is counted, whoever asks for it. It is counted as a ring, see
`metatrain.plan.collectives`: gloo and NCCL choose their own ways, and none sends less.
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

from benchmarks.cluster.worker import EnoughError, train
from metatrain.config import Config, load_config
from metatrain.model.build import build_generator
from metatrain.plan.collectives import legs_of
from metatrain.plan.layout import layout_of
from metatrain.training.observer import Observer
from metatrain.training.state import Record

WORLD = 2
SMALL = ["data.image_size=8", "generator.width=8", "data.shots=3", "data.queries=3"]

# How many times (n - 1) / n of its size each of n workers sends; and of torch's arguments that of
# this size, and the process group.
_RINGS = {
    "allreduce_": (2, 0, 1),
    "broadcast_": (1, 0, 1),
    "allgather_": (1, 0, 2),
    "_allgather_base_": (1, 0, 2),
    "reduce_scatter_": (1, 1, 2),
    "_reduce_scatter_base_": (1, 1, 2),
}


class Collective(NamedTuple):
    """What one collective is called, and the bytes that this worker sends in it."""

    name: str
    sent: float


class Wire(TorchDispatchMode):
    """Notes every collective of this thread.

    Raises:
        KeyError: when there is one of a kind that it does not know.
    """

    def __init__(self) -> None:
        super().__init__()
        self.collectives: list[Collective] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, and note it where it is a collective."""
        name = func._schema.name
        if name.startswith("c10d::") and name != "c10d::barrier":
            self._note(name.removeprefix("c10d::"), args)
        return func(*args, **(kwargs or {}))

    def _note(self, name: str, args: Any) -> None:
        times, tensors, group = _RINGS[name]
        size = sum(t.nbytes for t in tree_leaves(args[tensors]) if isinstance(t, torch.Tensor))
        workers = dist.ProcessGroup.unbox(args[group]).size()
        self.collectives.append(Collective(name, times * (workers - 1) / workers * size))


class _Steps(Observer):
    """Keeps what the wire saw in one outer step: the second, when all states exist."""

    def __init__(self, wire: Wire) -> None:
        self._wire, self.found = wire, []

    def on_step(self, step: int, record: Record) -> None:
        self.found, self._wire.collectives = self._wire.collectives, []
        if step == 2:
            raise EnoughError


def sent_in_a_step(configs: Sequence[Config]) -> list[list[Collective]]:
    """What worker 0 of `WORLD` gives to collectives in an outer step of each of `configs`."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_worker, (folder, [c.model_dump(mode="json") for c in configs]), nprocs=WORLD)
        found = json.loads(Path(f"{folder}/found.json").read_text())
    return [[Collective(*one) for one in step] for step in found]


def _worker(rank: int, folder: str, configs: list[dict[str, Any]]) -> None:
    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    found = []
    for values in configs:
        with Wire() as wire:
            steps = _Steps(wire)
            train(Config.model_validate(values), steps)
        found.append(steps.found)
    if rank == 0:
        Path(f"{folder}/found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def main() -> None:
    """Measure three learners at three stages, and print a table."""
    cases = list(product(("reptile", "fomaml", "maml"), (0, 1, 2)))
    configs = [case(learner, stage) for learner, stage in cases]
    with torch.device("meta"):
        count = sum(p.numel() for p in build_generator(configs[0]).parameters())
    print(f"{count:,} parameters, {WORLD} workers; MB that each sends in an outer step\n")
    print("| learner | stage | collectives | sent | predicted | least |\n|---|--:|--:|--:|--:|--:|")
    for (learner, stage), config, found in zip(
        cases, configs, sent_in_a_step(configs), strict=True
    ):
        legs = legs_of(config, layout_of(config, WORLD, sharded=False), count, passes=0)
        sizes = sum(c.sent for c in found), sum(g.sent for g in legs), sum(g.least for g in legs)
        megabytes = " | ".join(f"{size / 1e6:.3f}" for size in sizes)
        print(f"| {learner} | {stage} | {len(found)} | {megabytes} |", flush=True)


def case(learner: str, stage: int, inner_steps: int = 2) -> Config:
    """A small configuration."""
    chosen = [f"learner.name={learner}", f"cluster.zero_stage={stage}"]
    return load_config(None, [*SMALL, *chosen, f"inner.steps={inner_steps}"])


if __name__ == "__main__":
    sys.exit(main())
