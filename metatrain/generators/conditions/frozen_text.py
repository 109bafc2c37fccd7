"""Texts through vectors that stay as they are: what frozen encoders have in common."""

from collections.abc import Callable
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from metatrain.data.examples import Condition
from metatrain.generators.conditions.encoder import (
    ConditionEncoder,
    Tokens,
    place_embedding,
)
from metatrain.generators.conditions.sections import FrozenTextConfig

# Texts whose vectors are kept: an inner loop embeds the same ones at every step.
REMEMBERED = 4096

# The width D of the vectors, and what returns those of a text, [n, D].
Opened = tuple[int, Callable[[str], Tensor]]


C = TypeVar("C", bound=FrozenTextConfig)


class FrozenText(ConditionEncoder[C]):
    """A text as vectors [length, D] that no training changes, and a perceptron on each of them.

    The vectors are no parameters, so that neither theta nor a model file has them.

    Args:
        config: the place of the vectors.
        token: channels of a token (T).

    Attributes:
        opened: opens what a section names, given as JSON; once a process.

    Raises:
        UserError: when they cannot be read.
    """

    opened: ClassVar[Callable[[str], Opened]]

    def __init__(self, config: C, token: int) -> None:
        super().__init__(config, token)
        self.width, self._vectors = type(self).opened(config.model_dump_json())
        self.length = config.length
        self.norm = nn.LayerNorm(self.width, elementwise_affine=False)
        self.into, self.out = nn.Linear(self.width, token), nn.Linear(token, token)

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
