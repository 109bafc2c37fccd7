"""Layers that networks share."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metatrain.generators.conditions.encoders import Given


def group_norm(channels: int) -> nn.GroupNorm:
    """Make a GroupNorm with groups of at least 8 channels.

    Never BatchNorm: its running statistics would leak from one task into the next.
    """
    return nn.GroupNorm(math.gcd(8, max(1, channels // 8)), channels)


class FiLM(nn.Module):
    """Feature-wise linear modulation, x -> x (1 + scale) + shift (Perez et al. 2018, eq. 1).

    Scale and shift are linear in an embedding; these layers are the scope `film`.
    """

    def __init__(self, embedding: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Modulate `x` [B, C, ...] by `embedding` [B, E]."""
        places = (1,) * (x.ndim - 2)
        scale, shift = self.linear(F.silu(embedding)).unflatten(-1, (-1, *places)).chunk(2, dim=1)
        return x * (1 + scale) + shift


class AdapterTerm(nn.Module):
    """A term that a scope adds beside a layer, which without it computes as it did.

    Attributes:
        enabled: whether the term is added; see `without_adapters`.
    """

    enabled: bool = True


@contextmanager
def without_adapters(network: nn.Module) -> Iterator[None]:
    """Let a network compute without its adapters inside the context."""
    adapters = [module for module in network.modules() if isinstance(module, AdapterTerm)]
    for adapter in adapters:
        adapter.enabled = False
    try:
        yield
    finally:
        for adapter in adapters:
            adapter.enabled = True


def fixed_beside_adapters(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that belong to no adapter, by name, as constants."""
    inside = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, AdapterTerm)
        for parameter in module.parameters()
    }
    named = network.named_parameters()
    return {name: p.detach() for name, p in named if id(p) not in inside}


class Context(nn.Module):
    """A vector that starts at 0 and conditions a generator (Zintgraf et al. 2019, CAVIA)."""

    def __init__(self, size: int, embedding: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(size))
        self.linear = nn.Linear(size, embedding, bias=False)

    def forward(self, embedding: Tensor) -> Tensor:
        """Add the vector, projected, to `embedding` [B, E]."""
        return embedding + self.linear(self.vector)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a FiLM; starts as its skip connection."""

    def __init__(self, channels_in: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm_in, self.norm = group_norm(channels_in), group_norm(channels)
        self.conv_in = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = FiLM(embedding, channels)
        same = channels_in == channels
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map `x` [B, channels_in, H, W] to [B, channels, H, W]."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = self.conv(F.silu(self.film(self.norm(h), embedding)))
        return self.skip(x) + h


class SetEncoder(nn.Module):
    """A small convolutional network that maps each support image to tokens."""

    def __init__(self, channels_in: int, width: int, token: int) -> None:
        super().__init__()
        widths = [channels_in, width, token]
        stages = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)]
        self.stages = nn.ModuleList(stages)
        self.norms = nn.ModuleList(group_norm(stage.out_channels) for stage in stages)
        self.out = nn.Conv2d(widths[-1], token, 3, padding=1)

    def forward(self, support: Tensor) -> Tensor:
        """Map [K, C, H, W] to tokens [K, places, token], one per place of the last feature map."""
        h = support
        for stage, norm in zip(self.stages, self.norms, strict=True):
            h = F.silu(norm(stage(h)))
        return self.out(h).flatten(2).transpose(1, 2)


class SetAttention(nn.Module):
    """Attention from every place of an image to the image itself and to the tokens of a set.

    A learned token stands for "nothing to see", so that attention to an empty set is defined.
    """

    def __init__(self, channels: int, token: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.nothing = nn.Parameter(torch.zeros(1, token))
        self.query = nn.Linear(channels, channels)
        self.key_value_self = nn.Linear(channels, 2 * channels)
        self.key_value_set = nn.Linear(token, 2 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, x: Tensor, tokens: Tensor, visible: Tensor, given: Given | None = None
    ) -> Tensor:
        """Attend from `x` [B, C, H, W] to `tokens` [N, T], as far as `visible` [B, N].

        Each image attends also to what is `given` for it alone.
        """
        b, c, h, w = x.shape
        flat = self.norm(x).flatten(2).transpose(1, 2)
        local = self.key_value_self(flat)
        shared = self.key_value_set(torch.cat([self.nothing, tokens]))
        parts, masks = [local, shared.expand(b, -1, -1)], [visible.new_ones(b, h * w + 1), visible]
        if given is not None:
            parts.append(self.key_value_set(given.tokens))
            masks.append(given.visible)
        keys_values, mask = torch.cat(parts, dim=1), torch.cat(masks, dim=1)[:, None, None, :]
        q, k, v = (self._split(y) for y in (self.query(flat), *keys_values.chunk(2, dim=-1)))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out = self.out(attended.transpose(1, 2).flatten(2))
        return x + out.transpose(1, 2).reshape(b, c, h, w)

    def _split(self, y: Tensor) -> Tensor:
        """Split channels among heads: [B, N, C] to [B, heads, N, C / heads]."""
        return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def time_embedding(t: Tensor, channels: int) -> Tensor:
    """Embed times `t` [B] in [0, 1] as [B, channels], as Vaswani et al. 2017, section 3.5."""
    octaves = torch.arange(channels // 2, device=t.device) / (channels // 2)
    angles = 1000.0 * t[:, None] * torch.exp(-math.log(10_000.0) * octaves)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def mean_of_visible(memory: Tensor, visible: Tensor) -> Tensor:
    """Average the tokens of the images that each row of `visible` [B, K] may see: [B, token]."""
    seen = visible.to(memory.dtype)
    return (seen @ memory.mean(dim=1)) / seen.sum(dim=1, keepdim=True).clamp(min=1)
