"""The work of an evaluation, shared by the workers of a Ray cluster."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import ray
from ray.exceptions import RayError

from cluster.run.ray_cluster import joined_cluster
from metatrain.base.errors import UserError
from metatrain.base.machine import cores
from metatrain.evaluation.running.jobs import Job, perform
from metatrain.evaluation.running.runner import prepare_process
from metatrain.storage.files import absolute


class OnRay:
    """Does the work on the cluster at RAY_ADDRESS, or on one of this machine's own.

    Data, models and the evaluation's folder lie where all nodes reach them. A piece that is lost
    with its node is done again elsewhere.

    Args:
        workers: how many share the work, on a CPU each; all CPUs of the cluster by default.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def __call__(self, jobs: Sequence[Job]) -> Iterator[object]:
        """Do all `jobs`, in any order.

        Raises:
            UserError: when a piece fails, or Ray cannot be reached.
        """
        with joined_cluster(self._workers or cores()):
            workers = self._workers or int(ray.cluster_resources().get("CPU", 1))
            coming, waiting = list(jobs), []
            while coming or waiting:
                while coming and len(waiting) < workers:
                    waiting.append(_perform.remote(_from_anywhere(coming.pop(0))))
                done, waiting = ray.wait(waiting)
                yield _result(done[0])


@ray.remote(num_cpus=1, max_retries=3)
def _perform(job: Job) -> None:
    prepare_process()
    perform(job)


def _from_anywhere(job: Job) -> Job:
    """The same job with local paths that hold in any folder."""
    system = replace(job.system, url=absolute(job.system.url))
    return replace(job, system=system, data=absolute(job.data), folder=absolute(job.folder))


def _result(done: "ray.ObjectRef") -> object:
    try:
        return ray.get(done)
    except RayError as error:
        cause = getattr(error, "cause", None)
        if cause:  # what the piece itself raised, without Ray's traceback around it
            raise cause from None
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"Ray lost a worker that evaluated ({reason}); evaluate again, and what is done is not "
            f"done again."
        ) from error
