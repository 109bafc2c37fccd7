"""The interface of a condition's encoder: from the values of a condition to tokens."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from metatrain.data.examples import Condition
from metatrain.generators.conditions.sections import EncoderConfig

C = TypeVar("C", bound=EncoderConfig)


class Tokens(NamedTuple):
    """Tokens that each example may attend to.

    Attributes:
        tokens: [B, L, T].
        visible: [B, L], False where an example has no token, as in all places of one that lacks
            the condition.
    """

    tokens: Tensor
    visible: Tensor


class ConditionEncoder(nn.Module, ABC, Generic[C]):
    """An encoder of one condition.

    What the objective's draw holds of a condition is a tensor [B, ...] that is 0 throughout where
    an example lacks it: to drop a condition is to multiply it by 0.

    Args:
        config: an instance of `Config`.
        token: channels of a token (T).

    Attributes:
        Config: its section of the configuration, under `generator.conditions`.
    """

    Config: ClassVar[type[EncoderConfig]]

    def __init__(self, config: C, token: int) -> None:
        super().__init__()
        self.config = config

    def tensor(self, values: Condition) -> Tensor:
        """Convert the values of B examples to a tensor [B, ...] that `forward` takes.

        It is a function of the values alone, without parameters of theta.
        """
        assert isinstance(values, Tensor)
        return values

    @classmethod
    def unread(cls, config: C, value: bytes) -> str | None:
        """Say what of a packed `value` is not encoded, as a noun phrase; None where all is."""
        return None

    @abstractmethod
    def missing(self, count: int) -> Tensor:
        """Return the tensor [count, ...] of examples that all lack the condition, zeros."""

    @abstractmethod
    def forward(self, values: Tensor) -> Tokens:
        """Encode values [B, ...] as tokens."""


def place_embedding(places: int, channels: int, like: Tensor) -> Tensor:
    """Embed the places of a sequence as [places, channels], as Vaswani et al. 2017, section 3.5."""
    octaves = torch.arange(channels // 2, device=like.device) / (channels // 2)
    place = torch.arange(places, device=like.device)[:, None]
    angles = place * torch.exp(-octaves * torch.log(torch.tensor(10_000.0, device=like.device)))
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype)
