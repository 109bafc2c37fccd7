"""The jobs of an evaluation, shared by the workers of a Ray cluster."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import ray
import torch
from ray.exceptions import RayError

from cluster.run.ray_cluster import ray_connection
from metatrain.base.errors import UserError
from metatrain.base.machine import cores
from metatrain.base.text import reason_of
from metatrain.evaluation.running.jobs import Job, perform
from metatrain.evaluation.running.runner import prepare_process
from metatrain.storage.files import absolute


class EvaluationPool:
    """Runner of evaluation jobs on the cluster at RAY_ADDRESS, or on one started on this machine.

    All nodes must reach the data, the models and the evaluation's folder. A job that is lost with
    its node runs again on another.

    Args:
        workers: the number of jobs at a time, on a CPU or a GPU each; by default all of the
            cluster.
        device: "cpu", "cuda", or "auto" for GPUs where the cluster has any.
    """

    def __init__(self, workers: int | None = None, device: str = "cpu") -> None:
        self._workers, self._device = workers, device

    def __call__(self, jobs: Sequence[Job]) -> Iterator[object]:
        """Run all jobs, in any order; yield once per finished job.

        Raises:
            UserError: when a job fails, or Ray cannot be reached.
        """
        with ray_connection(cpus=self._workers or cores()):
            device = self._kind_of_device()
            places = ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 1)
            workers, perform_job = self._workers or int(places), _perform
            if device == "cuda":
                perform_job = _perform.options(num_gpus=1)
            pending, running = list(jobs), []
            while pending or running:
                while pending and len(running) < workers:
                    job = _with_absolute_paths(pending.pop(0))
                    running.append(perform_job.remote(job, device))
                done, running = ray.wait(running)
                yield _result(done[0])

    def _kind_of_device(self) -> str:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if self._device == "auto":
            return "cuda" if gpus else "cpu"
        if self._device.startswith("cuda") and not gpus:
            raise UserError(
                "the Ray cluster has no GPU; evaluate with device cpu, or start Ray where one is."
            )
        return torch.device(self._device).type


@ray.remote(num_cpus=1, max_retries=3)
def _perform(job: Job, device: str) -> None:
    # On a GPU, Ray shows each worker its own alone.
    prepare_process()
    perform(job, torch.device(device))


def _with_absolute_paths(job: Job) -> Job:
    """Make a job's local paths absolute, since a worker has another working directory."""
    system = replace(job.system, url=absolute(job.system.url))
    return replace(job, system=system, data=absolute(job.data), folder=absolute(job.folder))


def _result(reference: "ray.ObjectRef") -> object:
    try:
        return ray.get(reference)
    except RayError as error:
        cause = getattr(error, "cause", None)
        if cause:  # the job's own error, without Ray's traceback
            raise cause from None
        raise UserError(
            f"Ray lost a worker of the evaluation ({reason_of(error)}); evaluate again, and "
            f"finished jobs are not repeated."
        ) from error
