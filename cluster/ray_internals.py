"""Private parts of Ray that this package depends on, one function or constant each.

Ray may change any of them in any release; constraints.txt pins the one that these are written for.
tests/cluster/test_ray_internals.py has a test of each, which fails when Ray changes it.

Ray is imported inside the functions: to submit a job, or to leave a cluster, needs no Ray Train,
whose import takes 1.5 s.
"""

import os
from collections.abc import Sequence
from logging import NullHandler, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.job_submission import JobSubmissionClient
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2.api.callback import RayTrainCallback
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

# The environment variable from which a starting cluster takes the port of its GCS.
GCS_PORT_VARIABLE = "RAY_GCS_SERVER_PORT"

# The environment variable without which Ray's C++ handler of SIGTERM prints a stack and aborts.
NO_SIGNAL_HANDLER_VARIABLE = "RAY_DISABLE_FAILURE_SIGNAL_HANDLER"

# The title that Ray gives to the process of a Train worker.
TRAIN_WORKER_TITLE = "ray::RayTrainWorker"

_NODE_ID_OPTION = "--node_id="

# Ray would log every ignore file that it finds.
_silent_logger = getLogger(f"{__name__}.silent")
_silent_logger.addHandler(NullHandler())
_silent_logger.propagate = False


def start_controller(
    trainer: "TorchTrainer",
    callbacks: "Sequence[RayTrainCallback]",
    scheduling_strategy: "NodeAffinitySchedulingStrategy",
) -> "ActorHandle[TrainController]":
    """Start the actor that leads a run, as `trainer.fit` does before it waits for the run's end.

    Args:
        trainer: the run's settings.
        callbacks: the controller's, such as `default_callbacks` returns.
        scheduling_strategy: the controller's node.

    Returns:
        The actor, whose `run` trains, `get_result` has the run's error, and `abort` ends the run.
    """
    import ray
    from ray._common.constants import RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR
    from ray.train.v2._internal import constants
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2._internal.execution.failure_handling import create_failure_policy
    from ray.train.v2._internal.execution.scaling_policy import create_scaling_policy
    from ray.train.v2._internal.util import ObjectRefWrapper

    failure_config = trainer.run_config.failure_config
    assert failure_config, "RunConfig sets it"
    silent = constants.DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE
    variables = {RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR: silent}
    actor: Any = ray.remote(TrainController).options(
        num_cpus=0,
        scheduling_strategy=scheduling_strategy,
        runtime_env={"env_vars": variables | constants.get_env_vars_to_propagate()},
    )
    return actor.remote(
        train_fn_ref=ObjectRefWrapper(trainer._get_train_func()),
        train_run_context=trainer.train_run_context,
        scaling_policy=create_scaling_policy(trainer.scaling_config),
        failure_policy=create_failure_policy(failure_config),
        callbacks=list(callbacks),
        validation_config=trainer.validation_config,
    )


def default_callbacks(
    trainer: "TorchTrainer", *, cluster_outlives_run: bool
) -> "list[RayTrainCallback]":
    """List the callbacks that `trainer.fit` would use, without those that start an idle actor.

    Each idle actor would import for seconds. One serves data sets of Ray Data, which no run here
    has. The other frees what a killed run holds, which is needless in a cluster that ends with it.
    """
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import (
        PlacementGroupCleanerCallback,
    )

    idle: tuple[type, ...] = (DatasetsCallback,)
    if not cluster_outlives_run:
        idle += (PlacementGroupCleanerCallback,)
    return [c for c in trainer._create_default_callbacks() if not isinstance(c, idle)]


def is_unresponsive(error: Exception) -> bool:
    """Return whether Train gave up a worker because it did not answer health checks in time."""
    from ray.train.v2._internal.exceptions import WorkerHealthCheckTimeoutError

    return isinstance(error, WorkerHealthCheckTimeoutError)


def is_dead(error: Exception) -> bool:
    """Return whether Train gave up a worker because its process is gone."""
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    return isinstance(error, WorkerHealthCheckFailedError)


def is_startup_timeout(error: Exception) -> bool:
    """Return whether `ray.init` failed because the machine was too busy to start a node in time."""
    return "timed out during startup" in str(error)


def prepare_worker() -> None:
    """Tell torch and DeepSpeed, in a Train worker, its place among the workers."""
    from ray.train.torch.config import _set_torch_distributed_env_vars

    _set_torch_distributed_env_vars()


def packaged_files(folder: Path) -> list[Path]:
    """List the files that Ray uploads as a job's working directory, below `folder`.

    These are the files that .gitignore and .rayignore do not exclude. Ray would follow every link;
    here a link to a folder stands for itself.
    """
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    paths: list[Path] = []
    links: list[Path] = []

    def is_link_to_folder(path: Path) -> bool:
        if path == folder or not path.is_symlink() or not path.is_dir():
            return False
        if not any(excludes(path) for excludes in exclusions if excludes != is_link_to_folder):
            links.append(path)
        return True

    defaults = ray_constants.get_runtime_env_default_excludes()
    exclusions = [packaging._get_excludes(folder, defaults), is_link_to_folder]
    uses_gitignore = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    # It adds the exclusions of each folder's own ignore files to the list while it is inside.
    packaging._dir_travel(folder, exclusions, paths.append, uses_gitignore, _silent_logger)
    return [path for path in paths if path.is_file()] + links


def get_from_dashboard(client: "JobSubmissionClient", path: str) -> Any:
    """Return the `data` of a dashboard's JSON response, for which the client has no method.

    Args:
        client: connects to the dashboard, and authenticates.
        path: from the dashboard's root, with its query.
    """
    response = client._do_request("GET", path)
    response.raise_for_status()
    return response.json()["data"]


def node_id_of(raylet_command: Sequence[str]) -> str | None:
    """Return the node id in the command line of a raylet; None where there is none."""
    options = (word for word in raylet_command if word.startswith(_NODE_ID_OPTION))
    return next((option.removeprefix(_NODE_ID_OPTION) for option in options), None)
