"""A diffusion transformer in which every block attends to the support."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from metatrain.generators.conditions.encoders import Given
from metatrain.generators.networks.layers import FiLM, mean_of_visible, time_embedding
from metatrain.generators.networks.sections import DiTConfig
from metatrain.generators.networks.velocity import VelocityNetwork, refuse_uneven_patches


class DiTBlock(nn.Module):
    """Attention and a perceptron, each modulated and gated by the embedding (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, embedding: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_perceptron = nn.LayerNorm(width, elementwise_affine=False)
        self.film_attention, self.film_perceptron = FiLM(embedding, width), FiLM(embedding, width)
        self.gates = nn.Linear(embedding, 2 * width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.key_value_set = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        nn.init.zeros_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)

    def forward(
        self, x: Tensor, embedding: Tensor, tokens: Tensor, given: Tensor | None, mask: Tensor
    ) -> Tensor:
        """Let the tokens of an image attend to each other and, by `mask`, to those of conditions.

        Args:
            x: tokens of images, [B, N, W].
            embedding: [B, E].
            tokens: of the set, [M, W].
            given: of each image's own conditions, [B, L, W].
            mask: [B, 1, 1, N + M + L], True where a token may be attended to.
        """
        gate_attention, gate_perceptron = self.gates(F.silu(embedding))[:, None].chunk(2, dim=-1)
        h = _modulated(self.film_attention, self.norm_attention(x), embedding)
        x = x + gate_attention * self._attend(h, tokens, given, mask)
        h = _modulated(self.film_perceptron, self.norm_perceptron(x), embedding)
        return x + gate_perceptron * self.perceptron(h)

    def _attend(self, h: Tensor, tokens: Tensor, given: Tensor | None, mask: Tensor) -> Tensor:
        query, local = self.query_key_value(h).split([h.shape[-1], 2 * h.shape[-1]], dim=-1)
        parts = [local, self.key_value_set(tokens).expand(h.shape[0], -1, -1)]
        parts += [] if given is None else [self.key_value_set(given)]
        key, value = torch.cat(parts, dim=1).chunk(2, dim=-1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (query, key, value))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(attended.transpose(1, 2).flatten(2))


class DiT(VelocityNetwork):
    """A transformer on patches (Peebles and Xie 2023), with the support's patches as keys.

    Args:
        config: its size.
        shape: of an example as the network sees it, [C, H, W], H = W.

    Raises:
        UserError: when H is not a multiple of `config.patch`.
    """

    Config = DiTConfig
    head = ("film_out", "out")
    attention_layers = ("blocks.*.query_key_value", "blocks.*.key_value_set", "blocks.*.out")

    def __init__(self, config: DiTConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        channels, side, _ = shape
        refuse_uneven_patches(side, config.patch)
        width, folded = config.width, channels * config.patch**2
        self.embedding = width
        self.fold, self.unfold = nn.PixelUnshuffle(config.patch), nn.PixelShuffle(config.patch)
        self.side = side // config.patch
        self.stem, self.stem_set = nn.Linear(folded, width), nn.Linear(folded, width)
        self.place = nn.Parameter(0.02 * torch.randn(self.side**2, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.set_summary = nn.Linear(width, width)
        self.blocks = nn.ModuleList(
            DiTBlock(width, config.heads, width) for _ in range(config.depth)
        )
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.film_out = FiLM(width, width)
        self.out = nn.Linear(width, folded)
        nn.init.zeros_(self.out.weight)
        self.condition_on(config.conditions, width, width)

    @override
    def encode(self, support: Tensor) -> Tensor:
        """Encode the support [K, C, H, W] as tokens [K, places, W], one per patch."""
        return F.silu(self.stem_set(self._patches(support)) + self.place)

    @override
    def velocity(
        self, x: Tensor, t: Tensor, memory: Tensor, visible: Tensor, given: Given | None = None
    ) -> Tensor:
        embedding = self.time(time_embedding(t, self.embedding))
        embedding = embedding + self.set_summary(mean_of_visible(memory, visible))
        if given is not None:
            embedding = embedding + given.summary
        if self.context is not None:
            embedding = self.context(embedding)
        h = self.stem(self._patches(x)) + self.place
        shown = visible.repeat_interleave(memory.shape[1], dim=1)
        masks = [visible.new_ones(h.shape[:2]), shown]
        masks += [] if given is None else [given.visible]
        mask, own = torch.cat(masks, dim=1)[:, None, None], None if given is None else given.tokens
        tokens = memory.flatten(0, 1)
        for block in self.blocks:
            h = block(h, embedding, tokens, own, mask)
        out = self.out(F.silu(_modulated(self.film_out, self.norm_out(h), embedding)))
        return self.unfold(out.transpose(1, 2).unflatten(-1, (self.side, self.side)))

    def _patches(self, images: Tensor) -> Tensor:
        """Cut images [B, C, H, W] into patches [B, places, C * patch^2]."""
        return self.fold(images).flatten(2).transpose(1, 2)


def _modulated(film: FiLM, x: Tensor, embedding: Tensor) -> Tensor:
    """Apply `film` to tokens [B, N, C], whose channels come last."""
    return film(x.transpose(1, 2), embedding).transpose(1, 2)
