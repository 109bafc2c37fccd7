"""What one Ray Train worker does: resume or begin, train its share, show and save."""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ray.train.torch import get_device
from ray.util.queue import Queue
from torch.utils.tensorboard import SummaryWriter

from cluster.run.messages import Message
from cluster.run.metrics import RunMetrics
from cluster.run.observers import ProgressLine, SampleGrid, Saver, Validator
from cluster.run.resolve_auto import settle
from cluster.run.worker_backend import told_to_leave
from metatrain.base.errors import UserError
from metatrain.config import Config, parse_config
from metatrain.data.loader import load_episodes
from metatrain.data.tasks import TaskSource
from metatrain.evaluation.validation import Validation, validation_of
from metatrain.model.build import build_generator
from metatrain.training.checkpoint import CheckpointStore, Peers
from metatrain.training.observer import Observer
from metatrain.training.run_data import held_out_episodes, source_of_run, training_sampler
from metatrain.training.state import first_state
from metatrain.training.trainer import Trainer

# Unseen tasks in the sample grid, and real images of each.
_GRID_TASKS, _GRID_REAL = 3, 4

# A worker waits so long for the others to have written their parts of a checkpoint.
_LONGEST_UPLOAD = timedelta(hours=1)


def train_worker(settings: dict[str, Any]) -> None:
    """Entry point of every worker.

    Args:
        settings: `config`, the configuration's plain values; `messages`, the queue to the
            driver; `verdicts`, the queue from it, or None; and `folder`, the driver's working
            directory, for relative paths.
    """
    if Path(settings["folder"]).is_dir():
        os.chdir(settings["folder"])
    config, messages = parse_config(settings["config"]), settings["messages"]
    try:
        train(config, messages, settings["verdicts"])
    except UserError as error:
        messages.put(Message("error", str(error)))
        raise


def train(config: Config, messages: Queue, verdicts: Queue | None = None) -> None:
    """Train from the newest checkpoint, or from the beginning, to the last outer step."""
    torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
    device = get_device()
    # DeepSpeed takes any GPU that it sees when it is imported, also one that Ray gave to others.
    os.environ["DS_ACCELERATOR"] = device.type
    # Its autotuner, which nobody uses here, would import MLflow where there is one: a second.
    sys.modules.setdefault("mlflow", None)  # pyright: ignore[reportArgumentType]
    trainer = _trainer(config, device, messages, verdicts)
    trainer.run()
    if dist.get_rank() == 0:
        if trainer.step < config.meta.steps:
            saved = f"saved at step {trainer.step:,}"
            messages.put(Message("line", f"A worker was told to leave; {saved}, starting again."))
        messages.put(Message("done", trainer.step))


def _trainer(
    config: Config, device: torch.device, messages: Queue, verdicts: Queue | None
) -> Trainer:
    """What trains this worker's share; of the state that it goes on from it keeps no more."""
    from cluster.engine.build import build_engine_and_learner

    def say(line: str) -> None:
        messages.put(Message("line", line))

    source, checkpoints = source_of_run(config), CheckpointStore(config.run.url, say)
    state = checkpoints.latest(_peers()) or first_state(build_generator(config))
    if dist.get_rank() == 0 and config.cluster.min_workers:
        say(f"Going on with {dist.get_world_size()} workers.")
    sampler = training_sampler(source, config)
    settled = settle(config, state, source, sampler, say)
    engine, learner = build_engine_and_learner(settled, state, device)
    _refuse_idle_groups(engine.world, config)
    place = {"start": state.step, "rank": engine.rank, "world": engine.world}
    episodes = load_episodes(source, sampler, **place)
    # Of its own, so that the background's gathering cannot meet the training's.
    writers = dist.new_group(backend="gloo", timeout=_LONGEST_UPLOAD)
    board = _board(config, state.step)
    observers: list[Observer] = []
    if config.validation.tasks:
        validation = _validation(config, source)
        place = (device, _peers(), messages, board, verdicts)
        observers.append(Validator(config, validation, *place))
    observers.append(Saver(config, checkpoints, _peers(writers), messages))
    observers.append(RunMetrics(config, dist.get_rank()))
    if config.checkpoint.samples:
        observers += _sample_grid(config, source, device, board, say)
    if board:
        observers.append(ProgressLine(config, dist.get_world_size(), messages, board))
    watching = (observers, source.traffic.take, told_to_leave)
    return Trainer(config, engine, learner, episodes, state, *watching)


def _refuse_idle_groups(groups: int, config: Config) -> None:
    if groups > config.meta.batch:
        raise UserError(
            f"meta.batch is {config.meta.batch} for {groups} task groups, and some would have "
            f"nothing to do; raise meta.batch or cluster.shards_per_group."
        )


def _peers(group: Any = None) -> Peers:
    """All workers, as those who write and read checkpoints together."""

    def gather(own: Any) -> list[Any]:
        everyones: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyones, own, group)
        return everyones

    return Peers(dist.get_rank(), dist.get_world_size(), gather)


def _board(config: Config, start: int) -> SummaryWriter | None:
    """Where worker 0 draws; None on others."""
    if dist.get_rank():
        return None
    return SummaryWriter(f"{config.run.url}/tensorboard", purge_step=start)


def _validation(config: Config, source: TaskSource) -> Validation:
    """The validation of this run. Collective: worker 0 trains the metric network if need be."""
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
    device: torch.device,
    board: SummaryWriter | None,
    say: Callable[[str], None],
) -> list[SampleGrid]:
    """The one of this run, or none where tasks have too few images; worker 0 says so."""
    try:
        grid = held_out_episodes(source, config, split="val", tasks=_GRID_TASKS, queries=_GRID_REAL)
    except UserError as error:
        if board:
            say(f"No sample grids: {error}")
        return []
    return [SampleGrid(config, grid, device, _peers(), board)]
