"""The jobs of an evaluation, shared by the workers of a Ray cluster."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import ray
from ray.exceptions import RayError

from cluster.run.ray_cluster import ray_connection
from metatrain.base.errors import UserError
from metatrain.base.machine import cores
from metatrain.evaluation.running.jobs import Job, perform
from metatrain.evaluation.running.runner import prepare_process
from metatrain.storage.files import absolute


class EvaluationPool:
    """Runner of evaluation jobs on the cluster at RAY_ADDRESS, or on one started on this machine.

    All nodes must reach the data, the models and the evaluation's folder. A job that is lost with
    its node runs again on another.

    Args:
        workers: the number of jobs at a time, on a CPU each; by default all CPUs of the cluster.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def __call__(self, jobs: Sequence[Job]) -> Iterator[object]:
        """Run all jobs, in any order; yield once per finished job.

        Raises:
            UserError: when a job fails, or Ray cannot be reached.
        """
        with ray_connection(cpus=self._workers or cores()):
            workers = self._workers or int(ray.cluster_resources().get("CPU", 1))
            pending, running = list(jobs), []
            while pending or running:
                while pending and len(running) < workers:
                    running.append(_perform.remote(_with_absolute_paths(pending.pop(0))))
                done, running = ray.wait(running)
                yield _result(done[0])


@ray.remote(num_cpus=1, max_retries=3)
def _perform(job: Job) -> None:
    prepare_process()
    perform(job)


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
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"Ray lost a worker of the evaluation ({reason}); evaluate again, and finished jobs "
            f"are not repeated."
        ) from error
