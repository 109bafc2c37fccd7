"""Times and errors of systems, measured side by side in one process."""

import gc
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.gradients.cases import Case
from benchmarks.gradients.systems import system
from metatrain.base.parameters import Parameters


@dataclass(frozen=True)
class Times:
    """Median times in seconds."""

    wall: float
    cpu: float


def times(systems: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """Time systems: the medians over `repeats` rounds, each of which runs every system once.

    Other load of the machine then affects all systems alike. Each round starts with another
    system, since the memory that one leaves, to be freed or reused, affects the next.
    """
    runs: dict[str, list[Times]] = {name: [] for name in systems}
    order = deque(systems)
    for _ in progress(range(repeats), "rounds"):
        order.rotate(-1)
        for name in order:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            systems[name]()
            runs[name].append(Times(time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: Times(statistics.median(t.wall for t in ts), statistics.median(t.cpu for t in ts))
        for name, ts in runs.items()
    }


def exact_gradient(case: Case, learner: str = "maml") -> Parameters:
    """Compute the outer gradient of `case` in float64, unrolled."""
    return system(f"{learner}/unrolled", replace(case, dtype=torch.float64))()


def relative_error(gradient: Parameters, exact: Parameters) -> float:
    """Compute |gradient - exact| / |exact| over all parameters together."""
    difference = sum(float((gradient[n].double() - e).square().sum()) for n, e in exact.items())
    return (difference / sum(float(e.square().sum()) for e in exact.values())) ** 0.5


def progress(items: Sequence, what: str) -> Iterator:
    """Yield `items`, and show on stderr how many are done and the time that the rest will take."""
    started = time.perf_counter()
    for i, item in enumerate(items):
        left = (time.perf_counter() - started) / i * (len(items) - i) if i else 0.0
        note = f", {left:.0f} s to go" if i else ""
        print(f"\r\033[K{what} {i}/{len(items)}{note}", end="", file=sys.stderr, flush=True)
        yield item
    print("\r\033[K", end="", file=sys.stderr, flush=True)
