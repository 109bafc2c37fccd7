"""The replay buffer: images that earlier outer steps made, which the objective sees again.

SimGAN's history of refined images (Shrivastava et al. 2017, section 2.3). It is part of a run's
state, the same on every worker: what workers add is gathered in the order of slots, and what is
replaced, and what an episode sees, are functions of (seed, step) and (seed, step, slot).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Condition, Examples
from metatrain.data.simulated import REPLAYED, SIMULATED
from metatrain.data.tasks.random_streams import random_stream, stream_key
from metatrain.learning.inner.loop import InnerLoop

# The only tensor of its state.
_IMAGES = "images"
# Purposes of the random streams.
_REPLACED, _SEEN = 0, 1


class Replay:
    """The images of earlier outer steps, on the CPU.

    Args:
        config: the run's configuration.
        state: of an earlier `state`; empty at first.
    """

    def __init__(self, config: Config, state: Parameters) -> None:
        self._capacity = config.objective.replays
        self._images, self._key = state.get(_IMAGES), stream_key(config.seed, "replay")

    @property
    def state(self) -> Parameters:
        """The buffer as a tree, to resume from."""
        return {} if self._images is None else {_IMAGES: self._images}

    @property
    def is_kept(self) -> bool:
        """Whether the objective replays anything."""
        return self._capacity > 0

    def added_to(self, episodes: Sequence[Episode], step: int, slots: range) -> list[Episode]:
        """Give every example of the episodes of `slots` images of the buffer, once it has any."""
        images = self._images
        if images is None:
            return list(episodes)
        return [
            _with_images(episode, images, random_stream(self._key, _SEEN, step, slot))
            for episode, slot in zip(episodes, slots, strict=True)
        ]

    def made_by(
        self, inner: InnerLoop, theta: Parameters, episodes: Sequence[Episode]
    ) -> list[Tensor]:
        """Make what each episode adds to the buffer, by `theta`; nothing where none is kept."""
        if not self.is_kept:
            return []
        inner.start(theta)
        generator = inner.generator
        with torch.no_grad():
            return [
                generator.objective.replayable(generator.network, episode.query)
                for episode in episodes
            ]

    def add(self, images: Sequence[Tensor], step: int) -> None:
        """Add the images of all slots, in the place of random ones where the buffer is full.

        Args:
            images: [N, C, H, W] of each slot, in order.
            step: the outer step that made them.
        """
        new = torch.cat(list(images)).cpu()[-self._capacity :]
        if self._images is None:
            self._images = new
            return
        order = random_stream(self._key, _REPLACED, step).permutation(len(self._images))
        kept = torch.from_numpy(order[: self._capacity - len(new)]).sort().values
        self._images = torch.cat([self._images[kept], new])


def _with_images(episode: Episode, images: Tensor, stream: np.random.Generator) -> Episode:
    support, query = (_seeing(part, images, stream) for part in (episode.support, episode.query))
    return replace(episode, support=support, query=query)


def _seeing(examples: Examples, images: Tensor, stream: np.random.Generator) -> Examples:
    """Give each of the examples as many images as it has simulated ones."""
    simulated = examples.given[SIMULATED]
    assert isinstance(simulated, Tensor)
    numbers = torch.from_numpy(stream.integers(len(images), size=simulated.shape[:2]))
    given: dict[str, Condition] = {**examples.given, REPLAYED: images[numbers].to(simulated)}
    return replace(examples, given=given)
