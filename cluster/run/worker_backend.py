"""The setup by Ray Train of every worker: torch's process group, and a handler of SIGTERM."""

import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig
from typing_extensions import override

from cluster.meeting import meet, new_meeting
from cluster.ray_internals import prepare_worker

_told_to_leave = threading.Event()


def told_to_leave() -> bool:
    """Return whether this worker is to leave: by its driver, or by SIGTERM to a spot instance."""
    return _told_to_leave.is_set()


def leave() -> None:
    """Let this worker leave, as after SIGTERM."""
    _told_to_leave.set()


class WorkerConfig(TorchConfig):
    """A `TorchConfig` for workers that save before they leave."""

    @property
    @override
    def backend_cls(self) -> type["_WorkerBackend"]:
        return _WorkerBackend


class _WorkerBackend(TorchConfig().backend_cls):
    _meeting: str | None = None

    @override
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        if len(set(worker_group.execute(_node))) == 1:
            meeting = self._meeting = worker_group.execute_single(0, new_meeting)
            _meet(worker_group, meeting, timedelta(seconds=backend_config.timeout_s))
        else:
            super().on_start(worker_group, backend_config)
        worker_group.execute(_handle_sigterm)

    @override
    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        # Not super's: it destroys the process group, for which all workers must take part, and
        # waits 30 s for a worker that is lost or hangs. Ray ends the processes by SIGTERM right
        # after; a worker that took it as a request to leave would end a run that continues.
        worker_group.execute_async(_end, meeting=self._meeting)


def _meet(worker_group: Any, meeting: str, timeout: timedelta) -> None:
    """Make torch's process group of workers on one machine."""
    backend = "nccl" if worker_group.get_resources_per_worker().get("GPU") else "gloo"
    worker_group.execute(prepare_worker)
    settings = {"meeting": meeting, "backend": backend, "world": len(worker_group)}
    joins = [
        worker_group.execute_single_async(number, meet, number=number, timeout=timeout, **settings)
        for number in range(len(worker_group))
    ]
    ray.get(joins)


# Ray calls these on the main thread, the only one on which Python handles signals; training runs
# on another.


def _node() -> str:
    return ray.get_runtime_context().get_node_id()


def _handle_sigterm() -> None:
    signal.signal(signal.SIGTERM, lambda *_: leave())


def _end(meeting: str | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if meeting:
        Path(meeting).unlink(missing_ok=True)
