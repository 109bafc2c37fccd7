"""Trained weights and real episodes, by a short joint training on the built-in glyphs."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.gradients.cases import QUERIES, SHOTS
from benchmarks.gradients.measure import progress
from benchmarks.gradients.networks import SIZE
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.packing.glyphs import glyph_images
from metatrain.data.pictures import from_uint8
from metatrain.generators import Generator


def glyph_episodes(count: int) -> list[Episode]:
    """Make an episode of each of the first `count` characters."""
    size = SHOTS + QUERIES
    tasks = (tensor_of([image.png for image in images]) for _, images in glyph_images(SIZE))
    pairs = zip(range(count), tasks, strict=False)
    return [Episode("glyph", *Examples(t[:size]).split(SHOTS), seed) for seed, t in pairs]


def tensor_of(pngs: list[bytes]) -> Tensor:
    """Decode grey PNGs as [N, 1, SIZE, SIZE] in [-1, 1]."""
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in pngs])
    return from_uint8(torch.from_numpy(pixels)[:, None])


def train(generator: Generator, episodes: list[Episode], steps: int) -> None:
    """Train jointly by Adam, with one episode per step."""
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, fused=True)
    for step in progress(range(steps), "training"):
        optimizer.zero_grad()
        batch = episodes[step % len(episodes)].whole_batch(noise_index=step)
        (loss,) = generator.losses(batch)
        loss.backward()
        optimizer.step()
