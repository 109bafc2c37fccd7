"""A run's numbers as Ray metrics, which Prometheus scrapes on every node.

Ray prefixes each name with `ray_`, and adds `_total` to a counter's; the dashboard and the alerts
of k8s/overlays/serve-metrics use those names.
"""

import resource
import time

import torch
from ray.util.metrics import Counter, Gauge
from typing_extensions import override

from metatrain.config import Config
from metatrain.training.observer import Observer
from metatrain.training.state import Record

_KIB = 1024


class RunMetrics(Observer):
    """Exporter of a step's record, under its own names, from worker 0, and of each worker's memory.

    Args:
        config: the run's configuration.
        rank: this worker's.
    """

    def __init__(self, config: Config, rank: int) -> None:
        self._config, self._rank = config, rank
        self._run = {"run": config.run.name}
        # Exported too, so that a change of it marks a restart of the workers.
        self._start_time = time.time()
        self._gauges: dict[str, Gauge] = {}
        self._tasks = Counter("metatrain_tasks", "Episodes learned from.", ("run",))
        self._time = Counter("metatrain_time_seconds", "Seconds by part.", ("run", "part"))
        self._memory = Gauge(
            "metatrain_memory_peak_bytes",
            "Peak memory of a worker, on the host or on its GPU.",
            ("run", "rank", "kind"),
        )

    @override
    def on_step(self, step: int, record: Record) -> None:
        # Ray reports the values every few seconds.
        self._set_memory()
        if self._rank:
            return
        self._tasks.inc(self._config.meta.batch, self._run)
        for part, seconds in seconds_by_part(record).items():
            if seconds > 0:
                self._time.inc(seconds, self._run | {"part": part})
        values = {name: v for name, v in record.items() if not name.startswith("seconds")}
        # Constants too, at every step: Ray may lose values set before its agent listens.
        values |= {"step": float(step), "steps": float(self._config.meta.steps)}
        for name, value in (values | {"start_time_seconds": self._start_time}).items():
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


def seconds_by_part(record: Record) -> dict[str, float]:
    """Split the seconds of an outer step, and of the checkpoint before it, by their use."""
    step = record["seconds"]
    parts = {
        "data": record["data_wait"] * step,
        "inner": record["seconds_inner"],
        "engine": record["seconds_engine"],
    }
    rest = {"other": max(0.0, step - sum(parts.values()))}
    return parts | rest | {"checkpoint": record["seconds_checkpoint"]}
