"""Scopes: which parameters the inner loop moves."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.generators import Generator
from metatrain.generators.networks.layers import Context, FiLM


class Scope(ABC):
    """A choice of parameters; some scopes add to the generator what they move."""

    Config: ClassVar[type[Section]]

    @staticmethod
    def install(generator: Generator, config: Any) -> None:
        """Add to a new generator what the scope moves, where it does not have it of itself."""

    @classmethod
    @abstractmethod
    def names(cls, generator: Generator) -> list[str]:
        """Names of the parameters that are moved, in the order of `named_parameters`.

        Raises:
            UserError: when the generator has no such parameters.
        """


class All(Scope):
    """Everything, as in MAML and Reptile."""

    class Config(Section):
        """Nothing to set."""

        name: Literal["all"] = "all"

    @classmethod
    def names(cls, generator: Generator) -> list[str]:
        """See `Scope.names`."""
        rule = {f"inner_rule.{name}" for name, _ in generator.inner_rule.named_parameters()}
        return [name for name, _ in generator.named_parameters() if name not in rule]


class Film(Scope):
    """The layers that modulate features, FiLM (Perez et al. 2018)."""

    class Config(Section):
        """Nothing to set."""

        name: Literal["film"] = "film"

    @classmethod
    def names(cls, generator: Generator) -> list[str]:
        """See `Scope.names`."""
        return _inside(generator, FiLM, "film")


class LowRank(nn.Module):
    """W + up down, with up = 0 at the start (Hu et al. 2022, "LoRA", eq. 3, with alpha = r)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.down = nn.Parameter(torch.randn(rank, columns) / math.sqrt(columns))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer uses."""
        return weight + (self.up @ self.down).view_as(weight)


class LoRA(Scope):
    """A low-rank term beside the weight of every linear and convolutional layer."""

    class Config(Section):
        """How large the term is."""

        name: Literal["lora"] = "lora"
        rank: int = Field(default=4, ge=1, description="Rank of what is added to each weight.")

    @staticmethod
    def install(generator: Generator, config: Any) -> None:
        """See `Scope.install`."""
        layers = [m for m in generator.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        for layer in layers:
            parametrize.register_parametrization(
                layer, "weight", LowRank(layer.weight, config.rank)
            )

    @classmethod
    def names(cls, generator: Generator) -> list[str]:
        """See `Scope.names`."""
        return _inside(generator, LowRank, "lora")


class Head(Scope):
    """The last layers, as in ANIL."""

    class Config(Section):
        """Nothing to set."""

        name: Literal["head"] = "head"

    @classmethod
    def names(cls, generator: Generator) -> list[str]:
        """See `Scope.names`."""
        return [name for name in All.names(generator) if _in_head(name, generator)]


class Body(Scope):
    """All but the last layers, as in BOIL."""

    class Config(Section):
        """Nothing to set."""

        name: Literal["body"] = "body"

    @classmethod
    def names(cls, generator: Generator) -> list[str]:
        """See `Scope.names`."""
        return [name for name in All.names(generator) if not _in_head(name, generator)]


class ContextScope(Scope):
    """One vector that conditions the generator, as in CAVIA."""

    class Config(Section):
        """How large the vector is."""

        name: Literal["context"] = "context"
        size: int = Field(default=64, ge=1, description="Numbers in the context vector.")

    @staticmethod
    def install(generator: Generator, config: Any) -> None:
        """See `Scope.install`."""
        generator.context = Context(config.size, generator.embedding)

    @classmethod
    def names(cls, generator: Generator) -> list[str]:
        """See `Scope.names`."""
        return ["context.vector"]


def _inside(generator: Generator, kind: type[nn.Module], scope: str) -> list[str]:
    owners = [name for name, module in generator.named_modules() if isinstance(module, kind)]
    names = [
        name
        for name in All.names(generator)
        if any(name.startswith(f"{owner}.") for owner in owners)
    ]
    if not names:
        raise UserError(
            f"inner.scope.name={scope} moves no parameter of {type(generator).__name__}, which has "
            f"no {kind.__name__} layers; use inner.scope.name=all."
        )
    return names


def _in_head(name: str, generator: Generator) -> bool:
    return name.startswith(tuple(f"{module}." for module in generator.head))


SCOPES: dict[str, type[Scope]] = {
    "all": All,
    "film": Film,
    "lora": LoRA,
    "head": Head,
    "body": Body,
    "context": ContextScope,
}
