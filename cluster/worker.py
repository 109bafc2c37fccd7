"""What one Ray Train worker does: resume or begin, train its share, show and save."""

import json
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ray.train.torch import get_device
from ray.util.queue import Queue
from torch.utils.tensorboard import SummaryWriter

from cluster.backend import told_to_leave
from cluster.watch import Message, ProgressLine, SampleGrid, Saver
from metatrain.build import build_generator, build_learner, choose_way, with_way
from metatrain.checkpoint import CheckpointStore, Peers
from metatrain.config import Config, parse_config
from metatrain.episodes import EpisodeSampler, read_episode, slots_of
from metatrain.errors import UserError
from metatrain.files import MissingError, read_file, write_file
from metatrain.inner.choice import Way
from metatrain.loader import held_out_episodes, load_episodes, open_store, training_sampler
from metatrain.store import EpisodeStore
from metatrain.trainer import Observer, Trainer, TrainState, first_state

# Unseen tasks in the sample grid, and real images of each.
_GRID_TASKS, _GRID_REAL = 3, 4

# A worker waits so long for the others to have written their parts of a checkpoint.
_LONGEST_UPLOAD = timedelta(hours=1)


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
    from cluster.engine import ZeroEngine

    store = open_store(config.data)
    checkpoints = CheckpointStore(config.run.url, lambda line: messages.put(Message("line", line)))
    state = checkpoints.latest(_peers()) or first_state(build_generator(config))

    if dist.get_rank() == 0 and config.cluster.min_workers:
        messages.put(Message("line", f"Going on with {dist.get_world_size()} workers."))

    sampler = training_sampler(store, config)
    settled = _settled(config, state, store, sampler, messages)
    generator = build_generator(config)
    generator.load_state_dict(state.parameters)
    engine = ZeroEngine(generator.to(device), config, state.optimizer)
    episodes = load_episodes(
        store,
        sampler,
        config.data,
        start=state.step,
        rank=engine.rank,
        world=engine.world,
    )
    # Of its own, so that the background's gathering cannot meet the training's.
    writers = dist.new_group(backend="gloo", timeout=_LONGEST_UPLOAD)
    observers: list[Observer] = [Saver(config, checkpoints, _peers(writers), messages)]
    if engine.rank == 0:
        observers += _worker_0_observers(config, store, messages, state.step)
    learner = build_learner(settled, build_generator(config).to(device))
    trainer = Trainer(
        config,
        engine,
        learner,
        episodes,
        state,
        observers,
        store.traffic.take,
        told_to_leave,
    )
    trainer.run()
    if engine.rank == 0:
        if trainer.step < config.meta.steps:
            saved = f"saved at step {trainer.step:,}"
            messages.put(Message("line", f"A worker was told to leave; {saved}, starting again."))
        messages.put(Message("done", trainer.step))


def _peers(group: Any = None) -> Peers:
    """All workers, as those who write and read checkpoints together."""

    def gather(own: Any) -> list[Any]:
        everyones: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyones, own, group)
        return everyones

    return Peers(dist.get_rank(), dist.get_world_size(), gather)


def _settled(
    config: Config,
    state: TrainState,
    store: EpisodeStore,
    sampler: EpisodeSampler,
    messages: Queue,
) -> Config:
    """`config` with what `auto` comes to: chosen once a run, by worker 0.

    Another choice would give other last bits, and a resumed run must end as if uninterrupted.
    """
    if "auto" not in (config.meta.gradient, config.meta.tasks_at_once):
        return config
    chosen: list[Way | None] = [None]
    if dist.get_rank() == 0:
        chosen = [_chosen_way(config, state, store, sampler, messages)]
    dist.broadcast_object_list(chosen, device=get_device())
    assert chosen[0] is not None, "worker 0 has chosen"
    return with_way(config, chosen[0])


def _chosen_way(
    config: Config,
    state: TrainState,
    store: EpisodeStore,
    sampler: EpisodeSampler,
    messages: Queue,
) -> Way:
    url = f"{config.run.url}/way.json"
    if state.step > 0:  # before that, nothing depends on an earlier choice
        with suppress(MissingError, ValueError, TypeError):
            return Way(**json.loads(read_file(url)))
    device, data = get_device(), config.data
    slots = slots_of(0, config.cluster.workers, config.meta.batch)
    plans = [sampler.plan(0, slot) for slot in slots]
    episodes = [read_episode(store, p, data.image_size, data.channels).to(device) for p in plans]
    choice = choose_way(
        config, {name: p.to(device) for name, p in state.parameters.items()}, episodes
    )
    messages.put(Message("line", f"auto takes {choice.way}: {choice.reason}."))
    write_file(url, json.dumps(choice.way._asdict()).encode())
    return choice.way


def _worker_0_observers(
    config: Config,
    store: EpisodeStore,
    messages: Queue,
    start: int,
) -> list[Observer]:
    board = SummaryWriter(f"{config.run.url}/tensorboard", purge_step=start)
    observers: list[Observer] = []
    if config.checkpoint.samples:
        try:
            grid = held_out_episodes(
                store, config, split="val", tasks=_GRID_TASKS, queries=_GRID_REAL
            )
            observers.append(SampleGrid(config, grid, board))
        except UserError as error:
            messages.put(Message("line", f"No sample grids: {error}"))
    return [*observers, ProgressLine(config, dist.get_world_size(), messages, board)]
