"""One Ray Train worker: resume or begin a run, train this worker's share, report and save."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from ray.train.torch import get_device
from ray.util.queue import Queue
from torch.utils.tensorboard import SummaryWriter

from cluster.engine.peers import ProcessGroupPeers
from cluster.run.driver_watch import Driver
from cluster.run.messages import Message, Receiver
from cluster.run.metrics import RunMetrics
from cluster.run.observers import DriverDisplay, ProgressLine, SampleGrid, Saver, Validator
from cluster.run.resolve_auto import resolve_auto
from cluster.run.worker_backend import told_to_leave
from metatrain.base.errors import UserError
from metatrain.base.progress import LogDisplay, displayed
from metatrain.base.text import counted
from metatrain.config import Config, parse_config
from metatrain.data.loader import load_episodes
from metatrain.data.tasks import TaskSource
from metatrain.evaluation.validation import Validation, validation_of
from metatrain.storage.files import absolute
from metatrain.training.checkpoint import CheckpointStore, state_of
from metatrain.training.engine import Engine
from metatrain.training.observer import Observer
from metatrain.training.run_data import (
    encoded_source,
    held_out_episodes,
    source_of_run,
    training_sampler,
)
from metatrain.training.state import TrainState
from metatrain.training.trainer import Trainer

if TYPE_CHECKING:  # DeepSpeed is imported once a worker has begun
    from cluster.engine.zero import ZeroEngine

# The unseen tasks in the sample grid, and the real images of each.
_GRID_TASKS, _GRID_REAL = 3, 4

# The longest that a worker waits for the others to write their parts of a checkpoint.
_UPLOAD_TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """The settings that the driver hands to every worker.

    Attributes:
        config: the configuration's plain values.
        driver: the process that leads the run.
        decisions: the queue from the driver; None where training always continues.
        folder: the driver's working directory, for relative paths.
    """

    config: dict[str, Any]
    driver: Driver
    decisions: Queue | None
    folder: str


def train_worker(values: dict[str, Any]) -> None:
    """Run one worker; Ray Train calls this in every worker.

    Args:
        values: the attributes of `WorkerSettings`.
    """
    settings = WorkerSettings(**values)
    if Path(settings.folder).is_dir():
        os.chdir(settings.folder)
    try:
        config = parse_config(settings.config)
        settings.driver.watch()
        messages, check = settings.driver.mailbox, settings.driver.check
        train(config, messages, decisions=settings.decisions, may_write=check)
    except UserError as error:
        settings.driver.mailbox.put(Message("error", str(error)))
        raise


def train(
    config: Config,
    messages: Receiver,
    *,
    decisions: Queue | None = None,
    may_write: Callable[[], None] = lambda: None,
) -> None:
    """Train from the newest checkpoint, or from the beginning, to the last outer step.

    Args:
        config: the run's configuration.
        messages: the driver.
        decisions: see `WorkerSettings`.
        may_write: raises a `UserError` where this worker may write nothing more.
    """
    torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
    device = get_device()
    # On import, DeepSpeed takes any GPU that it sees, even one that Ray gave to another worker.
    os.environ["DS_ACCELERATOR"] = device.type
    # DeepSpeed's unused autotuner would import MLflow where it is installed, which takes a second.
    sys.modules.setdefault("mlflow", None)  # pyright: ignore[reportArgumentType]
    store = CheckpointStore(
        config.run.url, lambda line: messages.put(Message("line", line)), may_write
    )
    with displayed(DriverDisplay(messages) if dist.get_rank() == 0 else LogDisplay()):
        trainer = _trainer(config, device, store, messages=messages, decisions=decisions)
        trainer.run()
    if dist.get_rank() == 0:
        if trainer.step < config.meta.steps:
            text = f"A worker was told to leave; saved at step {trainer.step:,}, restarting."
            messages.put(Message("line", text))
        messages.put(Message("done", step=trainer.step))


def _trainer(
    config: Config,
    device: torch.device,
    checkpoints: CheckpointStore,
    *,
    messages: Receiver,
    decisions: Queue | None,
) -> Trainer:
    """Build the trainer of this worker's share, without keeping the state that it starts from."""
    from cluster.engine.build import build_engine_and_learner

    def say(line: str) -> None:
        messages.put(Message("line", line))

    source = source_of_run(config)
    if dist.get_rank() == 0 and config.cluster.min_workers:
        say(f"Training with {counted(dist.get_world_size(), 'worker')}.")
    sampler = training_sampler(source, config)
    resolved = resolve_auto(config, checkpoints, source, say)
    engine, learner = build_engine_and_learner(resolved, device)
    _refuse_idle_groups(engine.world, config)
    state = _starting_state(checkpoints, engine)
    encoded = encoded_source(source, config)
    episodes = load_episodes(
        encoded, sampler, start=state.step, rank=engine.rank, world=engine.world
    )
    observers = _observers(
        config,
        source,
        checkpoints,
        engine,
        start=state.step,
        messages=messages,
        decisions=decisions,
    )
    return Trainer(
        config,
        engine,
        learner,
        episodes,
        state,
        observers,
        read_counts=source.traffic.take,
        told_to_leave=told_to_leave,
    )


def _starting_state(checkpoints: CheckpointStore, engine: "ZeroEngine") -> TrainState:
    """Load this worker's part of the newest checkpoint, or begin a new run. Collective."""
    read = partial(state_of, partitions=engine.partitions)
    state = checkpoints.latest(ProcessGroupPeers(), read)
    if state is None:
        return engine.begin()
    engine.load(state)
    return state


def _observers(
    config: Config,
    source: TaskSource,
    checkpoints: CheckpointStore,
    engine: Engine,
    *,
    start: int,
    messages: Receiver,
    decisions: Queue | None,
) -> list[Observer]:
    """Build the observers in the order of their calls: a checkpoint is validated, then saved."""
    # A group of its own, so that gathering in the background cannot meet that of training.
    writers = dist.new_group(backend="gloo", timeout=_UPLOAD_TIMEOUT)
    assert isinstance(writers, dist.ProcessGroup), "every worker is a member"
    board, peers = _tensorboard(config, start), ProcessGroupPeers()
    observers: list[Observer] = []
    if config.validation.tasks:
        validator = Validator(
            config,
            _validation(config, source),
            engine,
            peers,
            messages=messages,
            board=board,
            decisions=decisions,
        )
        observers.append(validator)
    observers.append(Saver(config, checkpoints, engine, ProcessGroupPeers(writers), messages))
    observers.append(RunMetrics(config, dist.get_rank()))
    if config.checkpoint.samples:
        observers += _sample_grid(config, source, engine, board, messages)
    if board:
        observers.append(ProgressLine(config, dist.get_world_size(), messages, board))
    return observers


def _refuse_idle_groups(groups: int, config: Config) -> None:
    if groups > config.meta.batch:
        raise UserError(
            f"meta.batch is {config.meta.batch} for {groups} task groups, of which some would be "
            f"idle; raise meta.batch or cluster.shards_per_group."
        )


def _tensorboard(config: Config, start: int) -> SummaryWriter | None:
    """Open the run's TensorBoard on worker 0; return None on others."""
    if dist.get_rank():
        return None
    return SummaryWriter(absolute(f"{config.run.url}/tensorboard"), purge_step=start)


def _validation(config: Config, source: TaskSource) -> Validation:
    """Build the run's validation; worker 0 first trains a missing metric network. Collective."""
    if dist.get_rank():
        dist.barrier()
        return validation_of(config, source)
    try:
        return validation_of(config, source)
    finally:
        dist.barrier()


def _sample_grid(
    config: Config,
    source: TaskSource,
    engine: Engine,
    board: SummaryWriter | None,
    messages: Receiver,
) -> list[SampleGrid]:
    """Build the run's sample grid; where tasks have too few images, return none and say so."""
    try:
        grid = held_out_episodes(source, config, split="val", tasks=_GRID_TASKS, queries=_GRID_REAL)
    except UserError as error:
        if board:
            messages.put(Message("line", f"No sample grids: {error}"))
        return []
    return [SampleGrid(config, grid, engine, ProcessGroupPeers(), board)]
