"""A run's numbers as Ray's metrics, which Prometheus scrapes on every node.

Ray puts `ray_` before each name and `_total` behind a counter's; the dashboard and the alerts of
k8s/overlays/serve-metrics are written in those names.
"""

import resource
import time

import torch
from ray.util.metrics import Counter, Gauge

from metatrain.config import Config
from metatrain.trainer import Observer, Record

_KIB = 1024


class RunMetrics(Observer):
    """Every number of a step by its own name, from worker 0; from each worker, its memory.

    Args:
        config: the run's configuration.
        rank: this worker's.
    """

    def __init__(self, config: Config, rank: int) -> None:
        self._config, self._rank = config, rank
        self._run = {"run": config.run.name}
        self._gauges: dict[str, Gauge] = {}
        self._tasks = Counter("metatrain_tasks", "Episodes that were learned from.", ("run",))
        self._memory = Gauge(
            "metatrain_memory_peak_bytes",
            "The most memory that a worker had so far, of the host or of its GPU.",
            ("run", "rank", "kind"),
        )
        if rank == 0:
            # Every start of the workers has one of its own, so that a change of it is a restart.
            self._set("start_time_seconds", time.time())
            self._set("steps", config.meta.steps)

    def on_step(self, step: int, record: Record) -> None:
        """Bring everything up to date; what is exported is as old as Ray's last report."""
        self._set_memory()
        if self._rank == 0:
            self._tasks.inc(self._config.meta.batch, self._run)
            for name, value in (record | {"step": float(step)}).items():
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
