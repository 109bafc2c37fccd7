"""Starting a training run on Ray, and telling the person who started it how it goes."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from math import ceil
from pathlib import Path
from socket import socket

import ray
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.callback import RayTrainCallback
from ray.util import get_node_ip_address
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.backend import WorkerConfig
from cluster.messages import Message
from cluster.room import fewest_workers
from cluster.watch import Losses
from cluster.worker import train_worker
from metatrain.build import build_generator
from metatrain.checkpoint import Checkpoint, CheckpointStore
from metatrain.config import Config, differences
from metatrain.errors import UserError
from metatrain.files import filesystem_of
from metatrain.loader import begin_run_with, open_store, store_of_run, training_sampler
from metatrain.model import load_model, save_model
from metatrain.validation import read_validations

# What may change when a run goes on: where and how it runs, not what it computes.
_MAY_CHANGE = (
    "run.",
    "validation.",
    "cluster.",
    "checkpoint.",
    "adapt.",
    "generator.sampler.",
    "data.path",
    "data.prefetch_bytes",
    "data.cache_",
    "meta.steps",
)

# How often an elastic run looks whether it can have more workers.
_GROWTH_SECONDS = 10.0


def launch(config: Config) -> str:
    """Train `config`'s run to its last step, going on where it was; returns its model's URL.

    Joins the cluster at RAY_ADDRESS, or starts one on this machine for as long as it takes.

    Raises:
        UserError: when the run cannot start, or failed.
    """
    checkpoints = CheckpointStore(config.run.url, _say)
    done = steps_taken(config, checkpoints)
    if done < config.meta.steps:
        _say(
            f"Training {config.run.url} from step {done:,} of {config.meta.steps:,}; starting "
            f"{config.cluster.workers} workers takes some 20 s."
        )
        with joined_cluster(cpus_wanted(config)) as own:
            check_resources(config, fixed=own)
            # Once more whenever the workers have left before the last step, as they were told to.
            while done < config.meta.steps:
                training = Training(config, lasting=not own)
                done = _relay(training, config.run.url, done, to_the_end=not own)
    else:
        _say(
            f"{config.run.url} is trained already ({done:,} of {config.meta.steps:,} outer steps)."
        )
    return finish(config)


def finish(config: Config) -> str:
    """Write the model of a run that has taken its last step; returns its URL."""
    url = f"{config.run.url}/model.safetensors"
    # With today's configuration, of which some may have changed since the last checkpoint.
    model = load_model(CheckpointStore(config.run.url).folder(config.meta.steps))
    save_model(replace(model, config=config), url)
    return url


def steps_taken(config: Config, checkpoints: CheckpointStore) -> int:
    """The outer steps taken so far, once what would fail on the workers has been looked for.

    Raises:
        UserError: when the run cannot go on, or cannot begin.
    """
    build_generator(config)
    newest = checkpoints.newest()
    if newest and newest.step >= config.meta.steps:
        # No worker will read it any more.
        newest = checkpoints.latest(read=Checkpoint.verified)
    store = store_of_run(config) if newest else open_store(config.data)
    training_sampler(store, config)
    if newest is None:
        begin_run_with(store, config)
        return 0
    _check_may_go_on(newest.config, config)
    return newest.step


def _check_may_go_on(before: Config, now: Config) -> None:
    """Tell what differs from the configuration of the newest checkpoint.

    Raises:
        UserError: when some of it decides what is computed.
    """
    changes = {
        key: f"{key} from {json.dumps(a, default=str)} to {json.dumps(b, default=str)}"
        for key, (a, b) in differences(before, now).items()
    }
    forbidding = [said for key, said in changes.items() if not key.startswith(_MAY_CHANGE)]
    others = [said for key, said in changes.items() if key.startswith(_MAY_CHANGE)]
    if forbidding:
        besides = f" ({', '.join(others)} may change)" if others else ""
        raise UserError(
            f"{now.run.url} cannot go on with changed {', '.join(forbidding)}{besides}; set back "
            f"what was changed, or choose another run.name."
        )
    if others:
        _say(f"Changed since the newest checkpoint: {', '.join(others)}.")


@contextmanager
def joined_cluster(cpus: int, dashboard: bool = False) -> Iterator[bool]:
    """Join the cluster at RAY_ADDRESS, or start one on this machine for as long as it takes.

    Args:
        cpus: how many a cluster of our own has.
        dashboard: whether it has one. Where runs are to end without leaving anything behind, Train
            needs it: it asks there which of its actors live.

    Yields:
        Whether the cluster is of our own.

    Raises:
        UserError: when Ray cannot be joined or started.
    """
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            _start_ray(cpus, dashboard)
    except Exception as error:  # also bare ones, as where a busy machine starts its node too late
        reason = str(error).partition("\n")[0].rstrip(".")
        if address:
            hint = "check RAY_ADDRESS, and RAY_AUTH_TOKEN if the cluster wants one"
            raise UserError(f"Ray cannot be joined at {address} ({reason}); {hint}.") from error
        raise UserError(f"Ray cannot be started on this machine: {reason}.") from error
    try:
        yield not address
    finally:
        ray.shutdown()


def _start_ray(cpus: int, dashboard: bool) -> None:
    """Start a cluster on this machine; once more, where that was too busy to start it in time.

    Ray's nodes give up when their agents have not started within 15 s, whatever else is computed.
    """
    # Nobody announces that he takes this machine away, and to listen takes Train 2.5 s.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    for last in (False, True):
        try:
            with _telling_its_address() if dashboard else nullcontext():
                ray.init(
                    # Or Ray would join whatever cluster happens to run on this machine.
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=dashboard,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            return
        except Exception as error:
            if last or "timed out during startup" not in str(error):
                raise


@contextmanager
def _telling_its_address() -> Iterator[None]:
    """Inside, a cluster that starts here tells its processes which one is theirs.

    Train asks by the address that it finds, and where several clusters run on a machine it would
    find none: what a killed trial held would never be given back.
    """
    with socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    address = {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"{get_node_ip_address()}:{port}"}
    os.environ |= address
    try:
        yield
    finally:
        for name in address:
            del os.environ[name]


def check_resources(config: Config, *, fixed: bool) -> None:
    """A cluster of a fixed size must be large enough; one that may grow is waited for, aloud."""
    cluster, there = config.cluster, ray.cluster_resources()
    workers = fewest_workers(cluster)
    wanted = {
        "CPU": workers * cluster.cpus_per_worker,
        "GPU": workers * cluster.gpus_per_worker,
    }
    for kind, count in wanted.items():
        has, key = there.get(kind, 0), f"cluster.{kind.lower()}s_per_worker"
        short = f"{workers} workers need {count:g} {kind}s, and Ray has {has:g}"
        if count > has and fixed:
            lower = "cluster.min_workers" if cluster.min_workers else "cluster.workers"
            raise UserError(f"{short}; lower {lower} or {key}.")
        if count > has:
            _say(f"{short}; waiting for the cluster to grow.")


def cpus_wanted(config: Config) -> int:
    """At least what the run reserves: a machine of one core can take two workers, slowly."""
    return max(os.cpu_count() or 1, ceil(config.cluster.workers * config.cluster.cpus_per_worker))


class WorkersFailedError(UserError):
    """What has failed is not the user's doing: the same again may succeed."""


class Training:
    """One run's workers, at work since this was made, in a cluster that is joined already.

    Args:
        config: the run's configuration.
        verdicts: brings the workers, after each of their validations, whether to go on; without
            it, they do.
        lasting: whether the cluster outlives the run.
    """

    def __init__(
        self, config: Config, verdicts: Queue | None = None, *, lasting: bool = True
    ) -> None:
        self._config = config
        # Beside the driver, or the loss of a node that trains might take it away.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._fit: Future[None] = Future()
        trainer = _torch_trainer(config, self._queue, verdicts, lasting=lasting)
        # On a thread of its own, so that this one can relay messages and hear Ctrl-C; a daemon,
        # since it ends only when Ray does.
        threading.Thread(target=_fit, args=(trainer, self._fit), daemon=True).start()

    def messages(self) -> Iterator[Message]:
        """What the workers say, until they are done or have left.

        Raises:
            UserError: what a worker says cannot go on.
            WorkersFailedError: when Ray gave up on them.
        """
        while not (self._fit.done() and self._queue.empty()):
            with suppress(Empty):
                message = self._queue.get(timeout=0.5)
                if message.kind == "error":
                    raise UserError(message.content)
                yield message
                if message.kind == "done":
                    return
        self.close()

    def close(self) -> None:
        """Wait until nothing of the workers is left.

        Raises:
            WorkersFailedError: when Ray gave up on them.
        """
        try:
            self._fit.result()
        except (TrainingFailedError, RayError) as error:
            raise WorkersFailedError(_failure(error, self._config)) from error
        finally:
            self._queue.shutdown()


def _fit(trainer: TorchTrainer, outcome: Future[None]) -> None:
    try:
        trainer.fit()
        outcome.set_result(None)
    except BaseException as error:
        outcome.set_exception(error)


class _Trainer(TorchTrainer):
    """Without those of Train's actors that have nothing to do: each would import for seconds.

    Attributes:
        idle: the callbacks that start them.
    """

    # Of Ray Data there are no data sets.
    idle: tuple[type, ...] = (DatasetsCallback,)

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, self.idle)]


class _LastTrainer(_Trainer):
    """In a cluster that ends with the run, nobody has to give back what a killed one held."""

    idle = (DatasetsCallback, PlacementGroupCleanerCallback)


def _torch_trainer(
    config: Config, messages: Queue, verdicts: Queue | None, *, lasting: bool
) -> TorchTrainer:
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
    return (_Trainer if lasting else _LastTrainer)(
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


def _relay(training: Training, run: str, saved: int, *, to_the_end: bool) -> int:
    """Print what the workers say until training ends.

    Args:
        training: the workers.
        run: the URL of what they train.
        saved: the step up to which the run is safe.
        to_the_end: whether to wait until nothing is left of them. Of a cluster of our own nothing
            has to be left tidy.

    Returns:
        The step up to which it is then.

    Raises:
        UserError: what a worker says cannot go on.
        KeyboardInterrupt: with how far the run is safe.
    """
    try:
        for message in training.messages():
            if message.kind in ("saved", "done"):
                saved = message.content
            elif message.kind == "validated":
                _say(_found(run))
            else:
                _say(message.content)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"safe up to step {saved:,}; the same command goes on from there"
        ) from interrupt
    if to_the_end:
        training.close()
    return saved


def _found(run: str) -> str:
    """What the newest validation of a run found, in a sentence."""
    found = read_validations(run)[-1]
    last = found.curve[-1]
    return (
        f"step {found.step:,}: {last.own_task:.1%} of what is drawn of unseen tasks after {last.k} "
        f"inner steps is nearest to its own, KID {last.kid:.3f}, query loss {last.loss:.4f}"
    )


def _failure(error: Exception, config: Config) -> str:
    """What a person needs of Ray's account of a failed run: its last line, and what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (
        f"training failed ({lines[-1] if lines else type(error).__name__}); its workers may be "
        f"restarted cluster.max_failures={config.cluster.max_failures} times. The same command "
        f"goes on from the newest checkpoint."
    )


def absolute(url: str) -> str:
    """`url`, or where it is a path, one that holds in any folder."""
    return url if "://" in url else str(Path(url).absolute())


def _say(line: str) -> None:
    print(line, flush=True)
