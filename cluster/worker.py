"""What one Ray Train worker does: resume or begin, train its share, show and save."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ray.train.torch import get_device
from ray.util.queue import Queue
from torch.utils.tensorboard import SummaryWriter

from cluster.settle import settle
from cluster.watch import Message, ProgressLine, SampleGrid, Saver
from metatrain.build import build_generator
from metatrain.checkpoint import CheckpointStore
from metatrain.config import Config, parse_config
from metatrain.errors import UserError
from metatrain.loader import held_out_episodes, load_episodes, open_store, training_sampler
from metatrain.store import EpisodeStore
from metatrain.trainer import Observer, Trainer, TrainState, first_state

# Unseen tasks in the sample grid, and real images of each.
_GRID_TASKS, _GRID_REAL = 3, 4


def train_worker(settings: dict[str, Any]) -> None:
    """Entry point of every worker.

    Args:
        settings: `config`, the configuration's plain values; `messages`, the queue to the
            driver; and `folder`, the driver's working directory, for relative paths.
    """
    if Path(settings["folder"]).is_dir():
        os.chdir(settings["folder"])
    config, messages = parse_config(settings["config"]), settings["messages"]
    try:
        train(config, messages)
    except UserError as error:
        messages.put(Message("error", str(error)))
        raise


def train(config: Config, messages: Queue) -> None:
    """Train from the newest checkpoint, or from the beginning, to the last outer step."""
    torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
    device = get_device()
    # DeepSpeed takes any GPU that it sees when it is imported, also one that Ray gave to others.
    os.environ["DS_ACCELERATOR"] = device.type
    from cluster.build import build_engine_and_learner

    store = open_store(config.data)
    checkpoints = CheckpointStore(config.run.url)
    state = _common_state(checkpoints, device) or first_state(build_generator(config))

    sampler = training_sampler(store, config)
    settled = settle(
        config, state, store, sampler, lambda line: messages.put(Message("line", line))
    )
    engine, learner = build_engine_and_learner(settled, state, device)
    if engine.world > config.meta.batch:
        raise UserError(
            f"meta.batch is {config.meta.batch} for {engine.world} task groups, and some would "
            f"have nothing to do; raise meta.batch or cluster.shards_per_group."
        )
    episodes = load_episodes(
        store,
        sampler,
        config.data,
        start=state.step,
        rank=engine.rank,
        world=engine.world,
    )
    observers = []
    if dist.get_rank() == 0:
        observers = _worker_0_observers(config, store, checkpoints, messages, state.step)
    Trainer(config, engine, learner, episodes, state, observers, store.traffic.take).run()
    if dist.get_rank() == 0:
        messages.put(Message("done"))


def _common_state(checkpoints: CheckpointStore, device: torch.device) -> TrainState | None:
    """The newest whole checkpoint as worker 0 sees it, so that all workers begin at one step."""
    state = checkpoints.latest() if dist.get_rank() == 0 else None
    step = [state.step if state else None]
    dist.broadcast_object_list(step, device=device)
    if state or step[0] is None:
        return state
    state = checkpoints.read(step[0])
    if state is None:
        raise UserError(
            f"{checkpoints.folder(step[0])} is whole on worker 0's node and not on another's; "
            f"put run.dir where all nodes reach it."
        )
    return state


def _worker_0_observers(
    config: Config,
    store: EpisodeStore,
    checkpoints: CheckpointStore,
    messages: Queue,
    start: int,
) -> list[Observer]:
    board = SummaryWriter(f"{config.run.url}/tensorboard", purge_step=start)
    observers: list[Observer] = [Saver(config, checkpoints, messages)]
    if config.checkpoint.samples:
        try:
            grid = held_out_episodes(
                store, config, split="val", tasks=_GRID_TASKS, queries=_GRID_REAL
            )
            observers.append(SampleGrid(config, grid, board))
        except UserError as error:
            messages.put(Message("line", f"No sample grids: {error}"))
    return [*observers, ProgressLine(config, messages, board)]
