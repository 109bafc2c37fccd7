"""Flow matching: the objective and its samplers, over any network that predicts a velocity."""

from abc import abstractmethod
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.generators.generator import Draw, Generator

# Where from noise to image a support is looked at, and with how much noise each time.
_SURPRISE_TIMES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
_SURPRISE_DRAWS = 2


class SamplerConfig(Section):
    """How images are drawn from a flow."""

    method: Literal["euler", "heun"] = Field(
        default="heun",
        description="euler: one network call a step; heun: two, and far fewer steps needed.",
    )
    steps: int = Field(default=6, ge=1, le=1000, description="Steps from noise to image.")
    guidance: float = Field(
        default=1.0, ge=0, description="Classifier-free guidance towards the support; 1 is none."
    )


class FlowConfig(Section):
    """How a flow-matching generator is trained and drawn from; shared by all of them."""

    shared_noise: bool = Field(
        default=False,
        description="Reuse one noise per image in all inner steps of an episode.",
    )
    stratified_time: bool = Field(
        default=True,
        description="Spread the times of a batch evenly over [0, 1] instead of at random.",
    )
    condition_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of images trained without seeing the support."
    )
    sampler: SamplerConfig = SamplerConfig()


class FlowGenerator(Generator):
    """Rectified flow from noise x_0 at t = 0 to images x_1 at t = 1.

    Lipman et al. 2023, "Flow Matching for Generative Modeling", eq. 23 with sigma_min = 0;
    Liu et al. 2023, "Flow Straight and Fast", eq. 1:
    x_t = (1 - t) x_0 + t x_1, and the network regresses x_1 - x_0.
    """

    flow: FlowConfig
    image_shape: tuple[int, int, int]

    @abstractmethod
    def encode(self, support: Tensor) -> Tensor:
        """What the network remembers of the support [K, C, H, W]: one row [K, ...] an image."""

    @abstractmethod
    def velocity(self, x: Tensor, t: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        """Velocity [B, C, H, W] at `x`, times `t` [B], given `memory` rows [K, ...].

        `visible` [B, K] says which rows each image may look at; none is the unconditional flow.
        """

    def draw(self, batch: Batch) -> Draw:
        """Images x_1, noise x_0, times, support, and what of it each image may look at."""
        x1 = batch.examples.target
        x0, t, kept = self._random(batch)
        visible = self._visible(batch) & kept[:, None].to(x1.device)
        return x1, x0.to(x1), t.to(x1), batch.support.target, visible

    def share(self, draw: Draw, rows: slice) -> Draw:
        """See `Generator.share`; the support is everyone's."""
        x1, x0, t, support, visible = draw
        return x1[rows], x0[rows], t[rows], support, visible[rows]

    def forward(self, *draw: Tensor) -> Tensor:
        """Mean over the batch of |v(x_t, t) - (x_1 - x_0)|^2 per pixel."""
        x1, x0, t, support, visible = draw
        at = t[:, None, None, None]
        velocity = self.velocity((1 - at) * x0 + at * x1, t, self.encode(support), visible)
        # Not F.mse_loss: forward-mode differentiation of it crashes in compiled graphs.
        return (velocity - (x1 - x0)).square().mean()

    def embed(self, images: Tensor) -> Tensor:
        """See `Generator.embed`: the mean over places of what is remembered of an image."""
        return self.encode(images).flatten(1, -2).mean(dim=1)

    @torch.no_grad()
    def surprise(self, support: Examples) -> Tensor:
        """See `Generator.surprise`: the log of the loss at each of a few times, and its spread.

        Each image is seen given the others. Apart by time, since what is unusual of an image may be
        its outline or its strokes; the last number is how much the images differ in it, as those
        do that do not belong together.
        """
        count, given = len(support), support.target
        images = given.repeat(_SURPRISE_DRAWS, 1, 1, 1)
        noise = torch.randn(images.shape, generator=_stream(0)).to(images)
        memory = self.encode(given)
        visible = ~torch.eye(count, dtype=torch.bool, device=given.device)
        visible = visible.repeat(_SURPRISE_DRAWS, 1)
        losses = []
        for time in _SURPRISE_TIMES:
            x, t = (1 - time) * noise + time * images, images.new_full((len(images),), time)
            away = self.velocity(x, t, memory, visible) - (images - noise)
            losses.append(away.square().mean(dim=(1, 2, 3)))
        by_image = torch.stack(losses)
        each = by_image.mean(dim=0).view(_SURPRISE_DRAWS, count).mean(dim=0)
        spread = each.log().std(correction=0)
        return torch.cat([by_image.mean(dim=1).log(), spread[None]])

    def restore(self, batch: Batch, hidden: Tensor) -> Tensor:
        """See `Generator.restore`.

        Hidden pixels are noise and the others the image; the time tells how much is hidden.
        """
        images = batch.examples.target
        noise = self._random(batch)[0].to(images)
        x = hidden * noise + (1 - hidden) * images
        t = 1 - hidden.mean(dim=(1, 2, 3))
        velocity = self.velocity(x, t, self.encode(batch.support.target), self._visible(batch))
        return x + hidden * velocity

    def _random(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Noise, times and condition dropout of a batch, from its seed, on the CPU.

        On the CPU because a GPU's generator gives other numbers, and runs would not be comparable.
        """
        count = len(batch.examples)
        fresh = _stream(batch.seed, batch.draw)
        noise = _stream(batch.seed) if self.flow.shared_noise else fresh
        x0 = torch.randn(batch.examples.target.shape, generator=noise)
        t = torch.rand(count, generator=fresh)
        if self.flow.stratified_time:
            t = (torch.randperm(count, generator=fresh) + t) / count
        dropout = self.flow.condition_dropout if self.training else 0.0
        kept = torch.rand(count, generator=fresh) >= dropout
        return x0, t, kept

    def _visible(self, batch: Batch) -> Tensor:
        """[B, K], True where an image may look at a support image: at every one but itself."""
        index = batch.support_index
        positions = torch.arange(len(batch.support), device=index.device)
        return index[:, None] != positions[None, :]

    @torch.no_grad()
    def sample(self, support: Examples, count: int, seed: int) -> Tensor:
        """Integrate dx/dt = v(x, t) from noise to images; see `Generator.sample`."""
        noise = torch.Generator().manual_seed(seed)
        x = torch.randn((count, *self.image_shape), generator=noise).to(support.target)
        memory, sampler = self.encode(support.target), self.flow.sampler
        step = 1.0 / sampler.steps
        for i in range(sampler.steps):
            slope = self._guided(x, i * step, memory, sampler.guidance)
            if sampler.method == "heun" and i + 1 < sampler.steps:
                ahead = self._guided(x + step * slope, (i + 1) * step, memory, sampler.guidance)
                slope = (slope + ahead) / 2
            x = x + step * slope
        return x.clamp(-1, 1)

    def _guided(self, x: Tensor, time: float, memory: Tensor, guidance: float) -> Tensor:
        """v_u + w (v_c - v_u), Ho and Salimans 2022, eq. 6 with w + 1 written as w."""
        t = x.new_full((len(x),), time)
        seen = torch.ones(len(x), len(memory), dtype=torch.bool, device=x.device)
        conditional = self.velocity(x, t, memory, seen)
        if guidance == 1.0:
            return conditional
        unconditional = self.velocity(x, t, memory, ~seen)
        return unconditional + guidance * (conditional - unconditional)


def refuse_uneven_patches(image_size: int, patch: int) -> None:
    """Raise a UserError when images cannot be cut into whole patches of `patch` pixels a side."""
    if image_size % patch:
        raise UserError(
            f"data.image_size {image_size} is not a multiple of generator.patch {patch}."
        )


def _stream(*key: int) -> torch.Generator:
    """A generator of its own for every key, however close the keys are."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed))
