"""One run's workers under Ray Train, in a cluster that is joined already."""

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path

from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue

from cluster.placement import beside_driver
from cluster.run.messages import Message
from cluster.run.observers import Losses
from cluster.run.run_starter import start_run
from cluster.run.worker import train_worker
from cluster.run.worker_backend import WorkerConfig
from metatrain.base.errors import UserError
from metatrain.config import Config
from metatrain.storage.files import absolute, filesystem_of

# How often an elastic run looks whether it can have more workers.
_GROWTH_SECONDS = 10.0


class WorkersFailedError(UserError):
    """What has failed is not the user's doing: the same again may succeed."""


class Training:
    """One run's workers, at work since this was made, in a cluster that is joined already.

    Args:
        config: the run's configuration.
        verdicts: brings the workers, after each of their validations, whether to go on; without
            it, they do.
        lasting: whether the cluster outlives the run, and is to be left tidy.
    """

    def __init__(
        self, config: Config, verdicts: Queue | None = None, *, lasting: bool = True
    ) -> None:
        self._config, self._lasting = config, lasting
        options = {"num_cpus": 0, "scheduling_strategy": beside_driver()}
        self._queue = Queue(actor_options=options)
        trainer = _trainer(config, self._queue, verdicts)
        self._run = start_run(trainer, cluster_outlives_run=lasting)

    def messages(self) -> Iterator[Message]:
        """What the workers say, until nothing of them is left.

        Workers that leave are not the last to speak: Ray may just have put others in their place.
        Those that are done are, where the cluster ends with the run.

        Raises:
            UserError: what a worker says cannot go on.
            WorkersFailedError: when Ray gave up on them.
        """
        while not (self._run.has_ended() and self._queue.empty()):
            with suppress(Empty):
                message = self._queue.get(timeout=0.5)
                if message.kind == "error":
                    raise UserError(message.content)
                yield message
                if not self._lasting and message == Message("done", self._config.meta.steps):
                    return
        self._close()

    def abort(self) -> None:
        """End the workers where they are; what does not outlive the run ends with the cluster."""
        if self._lasting:
            self._run.abort()
            self._queue.shutdown()

    def _close(self) -> None:
        try:
            self._run.wait()
        except (TrainingFailedError, RayError) as error:
            raise WorkersFailedError(_failure(error, self._config)) from error
        finally:
            self._queue.shutdown()


def _trainer(config: Config, messages: Queue, verdicts: Queue | None) -> TorchTrainer:
    cluster = config.cluster
    resources = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    settings = {
        "config": config.model_dump(mode="json"),
        "messages": messages,
        "verdicts": verdicts,
        "folder": str(Path.cwd()),
    }
    filesystem, path = filesystem_of(absolute(config.run.url))
    # Ray's controller, which reads this, asks the workers for a sign of life.
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(cluster.timeout)
    elastic = cluster.min_workers and (cluster.min_workers, cluster.workers)
    if elastic:
        # As many as there were are waited for so long, before it is tried with fewer.
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
    return TorchTrainer(
        train_worker,
        train_loop_config=settings,
        # The others, who wait for a silent worker, must not be the first to fail: they cannot say
        # for whom they wait.
        torch_config=WorkerConfig(timeout_s=ceil(2 * cluster.timeout)),
        scaling_config=ScalingConfig(
            num_workers=elastic or cluster.workers,
            elastic_resize_monitor_interval_s=_GROWTH_SECONDS,
            use_gpu=bool(cluster.gpus_per_worker),
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=path,
            storage_filesystem=PyFileSystem(FSSpecHandler(filesystem)),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            callbacks=[Losses(messages)],
        ),
    )


def _failure(error: Exception, config: Config) -> str:
    """What a person needs of Ray's account of a failed run: its last line, and what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (
        f"training failed ({lines[-1] if lines else type(error).__name__}); its workers may be "
        f"restarted cluster.max_failures={config.cluster.max_failures} times. The same command "
        f"goes on from the newest checkpoint."
    )
