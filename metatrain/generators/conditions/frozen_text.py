"""Texts through vectors that stay as they are: what frozen encoders have in common."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.section import Section
from metatrain.data.examples import Condition
from metatrain.generators.conditions.encoder import (
    ConditionEncoder,
    EncoderConfig,
    Tokens,
    place_embedding,
)

C = TypeVar("C", bound=EncoderConfig)

# Texts whose vectors are kept: an inner loop embeds the same ones at every step.
REMEMBERED = 4096


class FrozenText(ConditionEncoder[C]):
    """A text as vectors [length, D] that no training changes, and a perceptron on each of them.

    The vectors are no parameters, so that neither theta nor a model file has them.

    Args:
        config: the place of the vectors.
        token: channels of a token (T).

    Raises:
        UserError: when they cannot be read.
    """

    kind = "text"

    def __init__(self, config: C, token: int) -> None:
        super().__init__(config, token)
        self.width, self.length, self._vectors = self.opened(config)
        self.norm = nn.LayerNorm(self.width, elementwise_affine=False)
        self.into, self.out = nn.Linear(self.width, token), nn.Linear(token, token)

    @classmethod
    @abstractmethod
    def opened(cls, config: C) -> tuple[int, int, Callable[[str], Tensor]]:
        """Return D, the most vectors of a text, and what returns those [n, D] of one."""

    @override
    def tensor(self, values: Condition) -> Tensor:
        rows = self.missing(len(values))
        for row, text in zip(rows, values, strict=True):
            if text:
                vectors = self._vectors(str(text))[: self.length]
                row[: len(vectors)] = vectors
        return rows

    @override
    def missing(self, count: int) -> Tensor:
        return torch.zeros(count, self.length, self.width)

    @override
    def forward(self, values: Tensor) -> Tokens:
        x = self.into(self.norm(values))
        x = nn.functional.gelu(x + place_embedding(x.shape[1], x.shape[2], x), approximate="tanh")
        return Tokens(self.out(x), (values != 0).any(dim=2))


def settings_of(section: Section) -> str:
    """Return a section as text, by which what it opens is kept."""
    return section.model_dump_json()
