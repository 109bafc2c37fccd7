"""Strips: what a model draws of a task before adapting, on the way, and after."""

import time
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.pictures import grid
from metatrain.generators import Generator
from metatrain.learning.inner.gradient_field import total
from metatrain.model.adapt import Adapter

# Draws of noise and time over which the query loss is averaged.
_LOSS_DRAWS = 4


@dataclass(frozen=True)
class Strip:
    """One unseen task as the model sees it.

    Attributes:
        task: its name.
        support: the images adapted to, [K, C, H, W] in [-1, 1].
        drawn: after so many inner steps, the images drawn, [N, C, H, W]; always from the same
            noise.
        query_loss: after so many inner steps, the loss on the query; always the same noise.
        seconds: what so many inner steps took, with nothing drawn.
        query: real images that the model never saw, [Q, C, H, W].
    """

    task: str
    support: Tensor
    drawn: dict[int, Tensor]
    query_loss: dict[int, float]
    seconds: dict[int, float]
    query: Tensor


def draw_strip(adapter: Adapter, episode: Episode, shown: Collection[int], count: int) -> Strip:
    """Adapt to the support, drawing `count` images after each number of steps in `shown`."""
    device = next(adapter.generator.parameters()).device
    episode = episode.to(device)
    drawn, losses, seconds, adapting = {}, {}, {}, 0.0
    started = time.perf_counter()
    for step, _ in adapter.steps(episode.support, episode.seed):
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # or only the start of its work would be timed
        adapting += time.perf_counter() - started
        if step in shown:
            drawn[step] = adapter.generator.sample(episode.support, count, episode.seed)
            losses[step] = query_loss(adapter.generator, episode)
            seconds[step] = adapting
        started = time.perf_counter()
    given, real = episode.support.target, episode.query.target
    return Strip(episode.task, given, drawn, losses, seconds, real)


def steps_shown(config: Config, columns: int = 5) -> list[int]:
    """About `columns` numbers of inner steps worth a look: 0, then doubling up to all of them."""
    last = config.adapt.steps
    return sorted({0, *(max(1, last >> i) for i in range(columns - 1))})


def row_of(strip: Strip) -> Tensor:
    """Its images [N, C, H, W], on the CPU: support | before adapting | after | real."""
    drawn = strip.drawn[min(strip.drawn)], strip.drawn[max(strip.drawn)]
    return torch.cat([strip.support, *drawn, strip.query]).cpu()


def rows_picture(rows: list[Tensor]) -> Tensor:
    """One picture [C, H, W] of rows of as many images each."""
    return grid(torch.cat(rows), columns=len(rows[0]))


@torch.no_grad()
def query_loss(generator: Generator, episode: Episode) -> float:
    """Return the loss on the query, conditioned on the support; always with the same noise."""
    generator.eval()  # every image sees the support
    losses = [total(generator.losses(episode.query_batch(draw))) for draw in range(_LOSS_DRAWS)]
    generator.train()
    return torch.stack(losses).mean().item()
