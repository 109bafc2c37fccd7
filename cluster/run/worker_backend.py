"""The setup by Ray Train of every worker: torch's process group, and a handler of SIGTERM."""

import signal
import threading
from typing import Any

from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig
from typing_extensions import override

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
    @override
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(_handle_sigterm)

    @override
    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        # Not super's: it destroys the process group, for which all workers must take part, and
        # waits 30 s for a worker that is lost or hangs. Ray ends the processes by SIGTERM right
        # after; a worker that took it as a request to leave would end a run that continues.
        worker_group.execute_async(_ignore_requests)


# Ray calls these on the main thread, the only one on which Python handles signals; training runs
# on another.


def _handle_sigterm() -> None:
    signal.signal(signal.SIGTERM, lambda *_: leave())


def _ignore_requests() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
