"""Start a run under Ray Train without waiting for its end.

`TorchTrainer.fit` waits. Its caller can do nothing else, and nobody can end a thread that waits:
when Ray is shut down beneath it, it hangs or crashes.
"""

from contextlib import suppress
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.train.torch import TorchTrainer

from cluster.placement import beside_driver
from cluster.ray_internals import default_callbacks, start_controller

# A controller answers nothing while it waits for workers to start.
_ABORT_SECONDS = 20.0


class StartedRun:
    """A run under Ray Train, from the start of its controller on.

    Args:
        controller: the actor that leads the run; see `cluster.ray_internals.start_controller`.
    """

    def __init__(self, controller: ActorHandle) -> None:
        self._controller: Any = controller
        self._end = self._controller.run.remote()

    def has_ended(self) -> bool:
        """Return whether `wait` would return at once."""
        ended, _ = ray.wait([self._end], timeout=0)
        return bool(ended)

    def wait(self) -> None:
        """Wait for the end of the run.

        Raises:
            TrainingFailedError: when its workers failed too often.
            RayError: when the controller itself failed.
        """
        ray.get(self._end)
        result: Any = ray.get(self._controller.get_result.remote())
        if result.error:
            raise result.error

    def abort(self) -> None:
        """End the run and release its resources, which would otherwise take minutes to lapse."""
        # The controller ends itself at last, so the call has no answer.
        with suppress(RayError):
            ray.get(self._controller.abort.remote(), timeout=_ABORT_SECONDS)


def start_run(trainer: TorchTrainer, *, cluster_outlives_run: bool) -> StartedRun:
    """Start a run's controller, which starts the workers.

    Args:
        trainer: the run's settings.
        cluster_outlives_run: whether somebody must release what a killed run holds.
    """
    callbacks = default_callbacks(trainer, cluster_outlives_run=cluster_outlives_run)
    return StartedRun(start_controller(trainer, callbacks, beside_driver()))
