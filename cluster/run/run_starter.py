"""Starting a run under Ray Train, without waiting for its end."""

from contextlib import suppress
from typing import Any, NamedTuple

import ray
from ray import ObjectRef
from ray._common.constants import RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR
from ray.exceptions import RayError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import (
    DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE,
    get_env_vars_to_propagate,
)
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2.api.callback import RayTrainCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

# A controller hears nothing while it waits for workers to start.
_ABORT_SECONDS = 20.0


def beside_driver() -> NodeAffinitySchedulingStrategy:
    """On the node of this process, or the loss of a node that trains might take it away."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


class StartedRun(NamedTuple):
    """A run under way.

    Attributes:
        controller: the actor that leads it.
        ended: there when it has ended, well or not.
        error: what Train's trainer looks at before it returns; nothing is known yet.
    """

    controller: Any
    ended: ObjectRef
    error: None = None

    def has_ended(self) -> bool:
        """Whether `wait` would return at once."""
        ended, _ = ray.wait([self.ended], timeout=0)
        return bool(ended)

    def wait(self) -> None:
        """Wait for its end.

        Raises:
            TrainingFailedError: when its workers failed too often.
            RayError: when it could not go on otherwise.
        """
        ray.get(self.ended)
        result: Any = ray.get(self.controller.get_result.remote())
        if result.error:
            raise result.error

    def abort(self) -> None:
        """End it, and give back what the cluster has promised it, which would lapse in minutes."""
        # The controller's last act is to end itself, and then there is no answer.
        with suppress(RayError):
            ray.get(self.controller.abort.remote(), timeout=_ABORT_SECONDS)


class RunStarter(TorchTrainer):
    """Starts a run, where Train's own trainer waits for its end, and leaves out idle actors.

    Who waits can do nothing else, and on a thread of its own nobody can end that: when Ray is shut
    down beneath it, it hangs or crashes.

    Attributes:
        idle: the callbacks that start actors which have nothing to do: each would import for
            seconds.
    """

    # Of Ray Data there are no data sets.
    idle: tuple[type, ...] = (DatasetsCallback,)

    def start(self) -> StartedRun:
        """Start the controller, which starts the workers."""
        return self.fit()  # pyright: ignore[reportReturnType]

    def _initialize_and_run_controller(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, **parts: Any
    ) -> StartedRun:
        silent = DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE
        variables = {RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR: silent}
        actor = ray.remote(TrainController).options(
            num_cpus=0,
            scheduling_strategy=beside_driver(),
            runtime_env={"env_vars": variables | get_env_vars_to_propagate()},
        )
        controller: Any = actor.remote(**parts)
        return StartedRun(controller, controller.run.remote())

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, self.idle)]


class LastRunStarter(RunStarter):
    """In a cluster that ends with the run, nobody has to give back what a killed one held."""

    idle = (DatasetsCallback, PlacementGroupCleanerCallback)
