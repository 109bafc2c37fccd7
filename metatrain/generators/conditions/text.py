"""The default encoder of texts: a small transformer over their bytes, trained with the model."""

import unicodedata

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from metatrain.data.examples import Condition
from metatrain.generators.conditions.encoder import (
    ConditionEncoder,
    Tokens,
    place_embedding,
)
from metatrain.generators.conditions.sections import TextEncoderConfig


class TextBlock(nn.Module):
    """Attention and a perceptron, each after a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map tokens [B, L, W]; `mask` [B, 1, 1, L] is True where one may be attended to."""
        y = self.query_key_value(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = y.permute(2, 0, 3, 1, 4).unbind()
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.perceptron(self.norm_perceptron(x))


class TextEncoder(ConditionEncoder[TextEncoderConfig]):
    """A transformer over bytes: any language, no vocabulary, nothing to fetch.

    Args:
        config: its size.
        token: channels of a token (T); heads that do not divide it are one.
    """

    Config = TextEncoderConfig

    def __init__(self, config: TextEncoderConfig, token: int) -> None:
        super().__init__(config, token)
        # Row 0 is the token that stands before every text, so that none is empty to attend to.
        self.bytes = nn.Embedding(1 + 256, token)
        heads = config.heads if token % config.heads == 0 else 1
        self.blocks = nn.ModuleList(TextBlock(token, heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(token)

    @override
    def tensor(self, values: Condition) -> Tensor:
        rows = self.missing(len(values))
        for row, text in zip(rows, values, strict=True):
            data = unicodedata.normalize("NFC", str(text)).encode(errors="replace")
            codes = [byte + 1 for byte in data[: self.config.length]]
            row[: len(codes)] = torch.tensor(codes, dtype=torch.int64)
        return rows

    @override
    @classmethod
    def unread(cls, config: TextEncoderConfig, value: bytes) -> str | None:
        if len(value) <= config.length:
            return None
        return f"a text of {len(value):,} bytes, of which the first {config.length} are read"

    @override
    def missing(self, count: int) -> Tensor:
        return torch.zeros(count, self.config.length, dtype=torch.int64)

    @override
    def forward(self, values: Tensor) -> Tokens:
        x = self.bytes(F.pad(values, (1, 0)))
        x = x + place_embedding(x.shape[1], x.shape[2], x)
        there = F.pad(values > 0, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, there[:, None, None])
        return Tokens(self.norm(x), there & (values > 0).any(dim=1, keepdim=True))
