"""The default network: a U-Net that attends to the support."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from metatrain.generators.conditions.encoders import Given
from metatrain.generators.networks.layers import (
    FiLM,
    ResidualBlock,
    SetAttention,
    SetEncoder,
    group_norm,
    mean_of_visible,
    time_embedding,
)
from metatrain.generators.networks.sections import UNetConfig
from metatrain.generators.networks.velocity import (
    INTERVAL,
    VelocityNetwork,
    refuse_uneven_patches,
)
from metatrain.generators.networks.wiring import FREQUENCIES, Wiring


class UNet(VelocityNetwork):
    """A U-Net whose middle attends to the support and whose every block is modulated by it.

    Args:
        config: its size.
        shape: of an example as the network sees it, [C, H, W], H = W.

    Raises:
        UserError: when H is not a multiple of `config.patch`.
    """

    Config = UNetConfig
    head = ("norm_out", "film_out", "out")
    attention_layers = ("attention.query", "attention.key_value_*", "attention.out")

    def __init__(self, config: UNetConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        channels, side, _ = shape
        refuse_uneven_patches(side, config.patch)
        self.time_channels = config.width
        widths = [config.width * m for m in config.multipliers]
        self.embedding = embedding = 4 * config.width
        lowest = widths[-1]
        self.time = nn.Sequential(
            nn.Linear(config.width, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.set_encoder = SetEncoder(channels, config.width, lowest)
        self.set_summary = nn.Linear(lowest, embedding)
        folded = channels * config.patch**2
        self.fold, self.unfold = nn.PixelUnshuffle(config.patch), nn.PixelShuffle(config.patch)
        self.stem = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(w, w, embedding) for w in widths[:-1])
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)
        )
        self.middle_in = ResidualBlock(lowest, lowest, embedding)
        self.attention = SetAttention(lowest, lowest, config.heads)
        self.middle_out = ResidualBlock(lowest, lowest, embedding)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(ResidualBlock(2 * w, w, embedding) for w in widths[:-1])
        self.norm_out, self.film_out = group_norm(widths[0]), FiLM(embedding, widths[0])
        self.out = nn.Conv2d(widths[0], folded, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        self.condition_on(config.conditions, lowest, embedding)

    @override
    def encode(self, support: Tensor) -> Tensor:
        """Encode the support [K, C, H, W] as tokens [K, places, token] on a grid of H / 4."""
        return self.set_encoder(support)

    @override
    def velocity(
        self, x: Tensor, t: Tensor, memory: Tensor, visible: Tensor, given: Given | None = None
    ) -> Tensor:
        embedding = self.time(time_embedding(t, self.time_channels))
        embedding = embedding + self.set_summary(mean_of_visible(memory, visible))
        if given is not None:
            embedding = embedding + given.summary
        if self.context is not None:
            embedding = self.context(embedding)
        h, skips = self.stem(self.fold(x)), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            h = block(h, embedding)
            skips.append(h)
            h = shrink(h)
        h = self.middle_in(h, embedding)
        shown = visible.repeat_interleave(memory.shape[1], 1)
        h = self.attention(h, memory.flatten(0, 1), shown, given)
        h = self.middle_out(h, embedding)
        for block, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            skip = skips.pop()
            h = grow(F.interpolate(h, size=skip.shape[-2:], mode="nearest"))
            h = block(torch.cat([h, skip], dim=1), embedding)
        return self.unfold(self.out(F.silu(self.film_out(self.norm_out(h), embedding))))

    @override
    def wiring(self) -> Wiring:
        """Return which weights share channels: every level and every block has its own."""
        wiring, embedding, token = Wiring(self), ("embedding",), ("token",)
        levels = [(f"level.{i}",) for i in range(len(self.shrink) + 1)]
        wiring.layer("time.0", ("time",), (FREQUENCIES,))
        wiring.layer("time.2", embedding, ("time",))
        for part, out, into in (("0", "set", ()), ("1", "features", ("set",))):
            wiring.layer(f"set_encoder.stages.{part}", (out,), into)
            wiring.layer(f"set_encoder.norms.{part}", (out,))
        wiring.layer("set_encoder.out", token, ("features",))
        wiring.layer("set_summary", embedding, token)
        wiring.layer("stem", levels[0])
        deeper = levels[-1]
        for i in reversed(range(len(self.shrink))):
            grown, out = (f"grow.{i}",), (f"up.{i}.out",)
            wiring.block(f"down.{i}", levels[i], levels[i], embedding)
            wiring.layer(f"shrink.{i}", levels[i + 1], levels[i])
            wiring.layer(f"grow.{i}", grown, deeper)
            wiring.block(f"up.{i}", grown + levels[i], out, embedding)
            deeper = out
        for block in ("middle_in", "middle_out"):
            wiring.block(block, levels[-1], levels[-1], embedding)
        wiring.attention("attention", levels[-1], token, self.attention.heads)
        wiring.layer("norm_out", deeper)
        wiring.film("film_out", deeper, embedding)
        wiring.layer("out", (), deeper)
        if self.interval is not None:
            wiring.layer(f"{INTERVAL}.hidden", (INTERVAL,))
            wiring.layer(f"{INTERVAL}.out", embedding, (INTERVAL,))
        return wiring
