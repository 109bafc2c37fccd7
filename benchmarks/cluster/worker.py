"""One worker of a run without Ray, which benchmarks measure in separate processes."""

from collections.abc import Iterator

import torch
from typing_extensions import override

from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.slots import slots_of
from metatrain.training.observer import Observer
from metatrain.training.state import Record
from metatrain.training.trainer import Trainer


class EnoughError(Exception):
    """End of a run that has taken enough outer steps."""


class Stop(Observer):
    """End of a run after `steps` outer steps, before it writes anything."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    @override
    def on_step(self, step: int, record: Record) -> None:
        if step >= self._steps:
            raise EnoughError


def train(config: Config, *observers: Observer) -> None:
    """Train on random images until an observer raises `EnoughError`.

    The process group must exist, and DS_ACCELERATOR be set to the device's type.
    """
    # DeepSpeed chooses its accelerator when it is imported.
    from cluster.engine.build import build_engine_and_learner

    engine, learner = build_engine_and_learner(config, torch.device("cpu"))
    state = engine.begin()
    episodes = random_episodes(config, engine.rank, engine.world)
    trainer = Trainer(config, engine, learner, episodes, state, observers)
    del state
    try:
        trainer.run()
    except EnoughError:
        return


def random_episodes(config: Config, rank: int, world: int) -> Iterator[list[Episode]]:
    """Yield episodes of noise for worker `rank`, for every outer step, without end."""
    data, stream = config.data, torch.Generator().manual_seed(rank)
    shape = (data.shots + data.queries, data.channels, data.image_size, data.image_size)
    while True:
        images = [
            torch.rand(shape, generator=stream) for _ in slots_of(rank, world, config.meta.batch)
        ]
        yield [
            Episode(f"task {i}", *Examples(x).split(data.shots), i) for i, x in enumerate(images)
        ]
