"""What Ray Train sets up in every worker: torch's process group, and an ear for SIGTERM."""

import signal
import threading
from typing import Any

from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig

_told_to_leave = threading.Event()


def told_to_leave() -> bool:
    """Whether this worker was sent SIGTERM, as before a spot instance is taken away."""
    return _told_to_leave.is_set()


class WorkerConfig(TorchConfig):
    """As `TorchConfig`, for workers that save before they leave."""

    @property
    def backend_cls(self) -> type["_WorkerBackend"]:
        """See `TorchConfig.backend_cls`."""
        return _WorkerBackend


class _WorkerBackend(TorchConfig().backend_cls):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(_listen)

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        # Torch's way out is one that all workers take together, and this is called when one of
        # them is lost or hangs; 30 s would be waited for it. Their processes end right after, by
        # Ray's SIGTERM: who took it for a word to leave would say goodbye for a run that goes on.
        worker_group.execute_async(_stop_listening)


# Ray runs these on the main thread, where alone Python hears signals; training has another.


def _listen() -> None:
    signal.signal(signal.SIGTERM, lambda *_: _told_to_leave.set())


def _stop_listening() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
