"""One run's workers under Ray Train, in a cluster that this process has joined."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from cluster.run.driver_watch import Driver
from cluster.run.lost_workers import LostWorkerReporter
from cluster.run.mailbox import Mailbox
from cluster.run.messages import Message
from cluster.run.run_starter import start_run
from cluster.run.worker import WorkerSettings, train_worker
from cluster.run.worker_backend import WorkerConfig
from metatrain.base.errors import UserError
from metatrain.base.processes import this_process
from metatrain.base.text import reason_of
from metatrain.config import Config
from metatrain.storage.files import absolute, filesystem_of
from metatrain.storage.lease import LeaseKey

# The interval at which an elastic run checks whether it can have more workers.
_GROWTH_SECONDS = 10.0


class WorkersFailedError(UserError):
    """A failure of Ray or of a machine: the same run again may succeed."""


class WorkerGroup:
    """The workers of one run, which start to train when this is made.

    Args:
        config: the run's configuration.
        lease: the lease of what the workers write.
        decisions: brings, after each validation, the decision whether training continues; None
            always continues.
        cluster_outlives_run: whether somebody must release what a killed run holds.
    """

    def __init__(
        self,
        config: Config,
        lease: LeaseKey,
        decisions: Queue | None = None,
        *,
        cluster_outlives_run: bool = True,
    ) -> None:
        self._config, self._cluster_outlives_run = config, cluster_outlives_run
        self._mailbox = Mailbox()
        driver = Driver(process=this_process(), mailbox=self._mailbox, lease=lease)
        trainer = _trainer(config, driver=driver, decisions=decisions)
        self._run = start_run(trainer, cluster_outlives_run=cluster_outlives_run)

    def messages(self) -> Iterator[Message]:
        """Yield the workers' messages until no worker is left.

        Workers that leave may not be the last to send messages, since Ray may just have replaced
        them. Where the cluster ends with the run, workers that are done are the last.

        Raises:
            UserError: when a worker reports an error.
            WorkersFailedError: when Ray gave up on the workers.
        """
        while not (self._run.has_ended() and self._mailbox.is_empty()):
            message = self._mailbox.get(0.5)
            if message is None:
                continue
            if message.kind == "error":
                raise UserError(message.text)
            yield message
            if not self._cluster_outlives_run and self._is_done(message):
                return
        self._close()

    def tell_to_leave(self) -> None:
        """Ask the workers to save and to end; their last message is `done`."""
        self._mailbox.tell_to_leave()

    def abort(self) -> None:
        """End the workers at once; a cluster that ends with the run ends them itself."""
        if self._cluster_outlives_run:
            self._run.abort()
            self._mailbox.close()

    def _is_done(self, message: Message) -> bool:
        return message.kind == "done" and message.step == self._config.meta.steps

    def _close(self) -> None:
        try:
            self._run.wait()
        except (TrainingFailedError, RayError) as error:
            raise WorkersFailedError(_failure_sentence(error, self._config)) from error
        finally:
            self._mailbox.close()


def _trainer(config: Config, *, driver: Driver, decisions: Queue | None) -> TorchTrainer:
    cluster = config.cluster
    resources = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    settings = WorkerSettings(
        config=config.model_dump(mode="json"),
        driver=driver,
        decisions=decisions,
        folder=str(Path.cwd()),
    )
    filesystem, path = filesystem_of(absolute(config.run.url))
    # The timeout of the health checks by Ray's controller, which reads this variable.
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(cluster.timeout)
    elastic = cluster.min_workers and (cluster.min_workers, cluster.workers)
    if elastic:
        # The time for as many workers as before to start, after which fewer must do.
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
    return TorchTrainer(
        train_worker,
        train_loop_config=vars(settings),
        # Longer than the health checks': workers that wait for a silent worker must not fail
        # before it does, since they cannot name it.
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
            callbacks=[LostWorkerReporter(driver.mailbox)],
        ),
    )


def _failure_sentence(error: Exception, config: Config) -> str:
    """Condense Ray's report of a failed run to its cause, and say what to do."""
    return (
        f"training failed ({reason_of(error)}); its workers may be "
        f"restarted cluster.max_failures={config.cluster.max_failures} times. The same command "
        f"resumes from the newest checkpoint."
    )
