"""Scopes: the parameters that the inner loop moves."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.generators import Generator
from metatrain.generators.networks.layers import Context, FiLM


class Scope(ABC):
    """A choice of parameters; some scopes add the parameters that they move to the generator."""

    Config: ClassVar[type[Section]]

    @staticmethod
    def install(generator: Generator, config: Any) -> None:
        """Add to a new generator the parameters that the scope moves, where it lacks them."""

    @classmethod
    @abstractmethod
    def names(cls, generator: Generator) -> list[str]:
        """Name the parameters that are moved, in the order of `named_parameters`.

        Raises:
            UserError: when the generator has no such parameters.
        """


class All(Scope):
    """All parameters, as in MAML and Reptile."""

    class Config(Section):
        """No settings."""

        name: Literal["all"] = "all"

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return [name for name, p in generator.named_parameters() if p.requires_grad]


class Film(Scope):
    """The layers that modulate features, FiLM (Perez et al. 2018)."""

    class Config(Section):
        """No settings."""

        name: Literal["film"] = "film"

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return _inside(generator, FiLM, "film")


class LowRank(nn.Module):
    """A weight plus a low-rank term, W + up down (Hu et al. 2022, "LoRA", eq. 3, alpha = r).

    At the start up = 0.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.down = nn.Parameter(torch.randn(rank, columns) / math.sqrt(columns))

    def forward(self, weight: Tensor) -> Tensor:
        """Add the low-rank term to the layer's `weight`."""
        return weight + (self.up @ self.down).view_as(weight)


class LoRA(Scope):
    """A low-rank term beside the weight of every linear and convolutional layer."""

    class Config(Section):
        """The size of the term."""

        name: Literal["lora"] = "lora"
        rank: int = Field(
            default=4, ge=1, le=4096, description="Rank of the term added to each weight."
        )

    @staticmethod
    @override
    def install(generator: Generator, config: Any) -> None:
        layers = [m for m in generator.network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        for layer in layers:
            parametrize.register_parametrization(
                layer, "weight", LowRank(layer.weight, config.rank)
            )

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return _inside(generator, LowRank, "lora")


class Head(Scope):
    """The last layers, as in ANIL."""

    class Config(Section):
        """No settings."""

        name: Literal["head"] = "head"

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return [name for name in All.names(generator) if _in_head(name, generator)]


class Body(Scope):
    """All but the last layers, as in BOIL."""

    class Config(Section):
        """No settings."""

        name: Literal["body"] = "body"

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return [name for name in All.names(generator) if not _in_head(name, generator)]


class ContextScope(Scope):
    """One vector that conditions the generator, as in CAVIA."""

    class Config(Section):
        """The size of the vector."""

        name: Literal["context"] = "context"
        size: int = Field(default=64, ge=1, le=65536, description="Length of the context vector.")

    @staticmethod
    @override
    def install(generator: Generator, config: Any) -> None:
        network = generator.network
        network.context = Context(config.size, network.embedding)

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return ["network.context.vector"]


def _inside(generator: Generator, kind: type[nn.Module], scope: str) -> list[str]:
    owners = [name for name, module in generator.named_modules() if isinstance(module, kind)]
    names = [
        name
        for name in All.names(generator)
        if any(name.startswith(f"{owner}.") for owner in owners)
    ]
    if not names:
        raise UserError(
            f"inner.scope.name={scope} moves no parameter of {type(generator.network).__name__}, "
            f"which has no {kind.__name__} layers; use inner.scope.name=all."
        )
    return names


def _in_head(name: str, generator: Generator) -> bool:
    return name.startswith(tuple(f"network.{module}." for module in generator.network.head))


SCOPES: dict[str, type[Scope]] = {
    "all": All,
    "film": Film,
    "lora": LoRA,
    "head": Head,
    "body": Body,
    "context": ContextScope,
}
