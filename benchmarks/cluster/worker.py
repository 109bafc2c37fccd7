"""One worker of a run without Ray: what benchmarks measure in processes of their own."""

from collections.abc import Iterator

import torch

from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.slots import slots_of
from metatrain.model.build import build_theta
from metatrain.training.observer import Observer
from metatrain.training.state import Record, first_state
from metatrain.training.trainer import Trainer


class EnoughError(Exception):
    """EnoughError outer steps have been taken."""


class Stop(Observer):
    """Ends a run after so many outer steps, before it writes anything."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_step(self, step: int, record: Record) -> None:
        """See `Observer.on_step`."""
        if step >= self._steps:
            raise EnoughError


def train(config: Config, *observers: Observer) -> None:
    """Train on random images until an observer raises `EnoughError`.

    The process group must exist, and DS_ACCELERATOR say what to train on.
    """
    # Which decides for an accelerator when it is imported.
    from cluster.engine.build import build_engine_and_learner

    state = first_state(build_theta(config))
    engine, learner = build_engine_and_learner(config, state, torch.device("cpu"))
    episodes = random_episodes(config, engine.rank, engine.world)
    trainer = Trainer(config, engine, learner, episodes, state, observers)
    del state
    try:
        trainer.run()
    except EnoughError:
        return


def random_episodes(config: Config, rank: int, world: int) -> Iterator[list[Episode]]:
    """For every outer step, without end, episodes of noise for worker `rank`."""
    data, stream = config.data, torch.Generator().manual_seed(rank)
    shape = (data.shots + data.queries, data.channels, data.image_size, data.image_size)
    while True:
        images = [
            torch.rand(shape, generator=stream) for _ in slots_of(rank, world, config.meta.batch)
        ]
        yield [
            Episode(f"task {i}", *Examples(x).split(data.shots), i) for i, x in enumerate(images)
        ]
