"""A run's numbers as Ray's metrics, which Prometheus scrapes on every node.

Ray puts `ray_` before each name and `_total` behind a counter's; the dashboard and the alerts of
k8s/overlays/serve-metrics are written in those names.
"""

import resource
import time

import torch
from ray.util.metrics import Counter, Gauge

from metatrain.config import Config
from metatrain.training.observer import Observer
from metatrain.training.state import Record

_KIB = 1024


class RunMetrics(Observer):
    """What a step's record holds, by the same names, from worker 0; from each worker, its memory.

    Args:
        config: the run's configuration.
        rank: this worker's.
    """

    def __init__(self, config: Config, rank: int) -> None:
        self._config, self._rank = config, rank
        self._run = {"run": config.run.name}
        # Of every start of the workers, so that a change of it is a restart.
        self._started = time.time()
        self._gauges: dict[str, Gauge] = {}
        self._tasks = Counter("metatrain_tasks", "Episodes that were learned from.", ("run",))
        self._time = Counter("metatrain_time_seconds", "Where time went.", ("run", "part"))
        self._memory = Gauge(
            "metatrain_memory_peak_bytes",
            "The most memory that a worker had so far, of the host or of its GPU.",
            ("run", "rank", "kind"),
        )

    def on_step(self, step: int, record: Record) -> None:
        """Bring everything up to date; Ray reports it every few seconds."""
        self._set_memory()
        if self._rank:
            return
        self._tasks.inc(self._config.meta.batch, self._run)
        for part, seconds in parts_of(record).items():
            if seconds > 0:
                self._time.inc(seconds, self._run | {"part": part})
        counted = {name: v for name, v in record.items() if not name.startswith("seconds")}
        # Also what does not change: Ray may lose what is set before its own agent listens.
        progress = {"step": float(step), "steps": float(self._config.meta.steps)}
        for name, value in (counted | progress | {"start_time_seconds": self._started}).items():
            self._set(name, value)

    def _set(self, name: str, value: float) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"metatrain_{name}", tag_keys=("run",))
        self._gauges[name].set(value, self._run)

    def _set_memory(self) -> None:
        peaks = {"host": _KIB * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        if torch.cuda.is_available():
            peaks["gpu"] = torch.cuda.max_memory_allocated()
        for kind, peak in peaks.items():
            self._memory.set(peak, self._run | {"rank": str(self._rank), "kind": kind})


def parts_of(record: Record) -> dict[str, float]:
    """The seconds of an outer step, and of the checkpoint before it, by what they went to."""
    step = record["seconds"]
    parts = {
        "data": record["data_wait"] * step,
        "inner": record["seconds_inner"],
        "engine": record["seconds_engine"],
    }
    rest = {"other": max(0.0, step - sum(parts.values()))}
    return parts | rest | {"checkpoint": record["seconds_checkpoint"]}
