"""Strips: what a model draws of a task before adapting, on the way, and after."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.pictures import grid
from metatrain.generators import Generator
from metatrain.learning.inner.gradient_field import total
from metatrain.learning.inner.theta import Theta
from metatrain.model.adapt import Adapter, steps_together

# Draws of noise and time over which a loss is averaged.
LOSS_DRAWS = 4


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


def draw_strips(
    config: Config, theta: Theta, episodes: Sequence[Episode], shown: Collection[int], count: int
) -> Iterator[Strip]:
    """Adapt to all episodes at once, and yield the strip of each, as `draw_strip` makes it.

    Whenever a strip is yielded, the generator of `theta` has the last fast weights of its episode.
    The seconds are an equal share of the time of all.

    Args:
        config: the model's configuration.
        theta: where to start; nobody else may use it.
        episodes: one episode, or several whose supports are of one size.
        shown: numbers of inner steps to sample after.
        count: number of images to sample.
    """
    if len(episodes) == 1:
        yield draw_strip(Adapter(config, theta), episodes[0], shown, count)
        return
    strips = [Strip(e.task, e.support.target, {}, {}, {}, e.query.target) for e in episodes]
    device, adapting, phis = next(theta.generator.parameters()).device, 0.0, None
    supports, seeds = [e.support for e in episodes], [e.seed for e in episodes]
    started = time.perf_counter()
    for step, _, phis in steps_together(config, theta, supports, seeds):
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # or only the start of its work would be timed
        adapting += time.perf_counter() - started
        for i, (episode, strip) in enumerate(zip(episodes, strips, strict=True)):
            if step in shown:
                generator = theta.load(phis(i)).generator
                strip.drawn[step] = generator.sample(episode.support, count, episode.seed)
                strip.query_loss[step] = query_loss(generator, episode)
                strip.seconds[step] = adapting / len(episodes)
        started = time.perf_counter()
    assert phis is not None
    for i, strip in enumerate(strips):
        theta.load(phis(i))
        yield strip


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
    losses = [total(generator.losses(episode.query_batch(draw))) for draw in range(LOSS_DRAWS)]
    generator.train()
    return torch.stack(losses).mean().item()
