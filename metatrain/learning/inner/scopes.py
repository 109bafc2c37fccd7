"""Scopes: the parameters that the inner loop moves."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import nn
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.generators import Generator
from metatrain.generators.networks.layers import Context, FiLM
from metatrain.learning.inner.low_rank import (
    Layer,
    LowRank,
    LowRankMixture,
    MixtureWeights,
    add_low_rank,
)

_TARGETS = Field(
    default=(), description="Layers with a term, by the end of their names, as to_q; none is all."
)


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


class LoRA(Scope):
    """A low-rank term beside every linear and convolutional layer, or beside some of them."""

    class Config(Section):
        """The size of the terms and the layers that have one."""

        name: Literal["lora"] = "lora"
        rank: int = Field(
            default=4, ge=1, le=4096, description="Rank of the term added to each layer."
        )
        rslora: bool = Field(
            default=False,
            description="Scale terms by the root of the rank (rsLoRA with alpha = rank).",
        )
        target_modules: tuple[str, ...] = _TARGETS

    @staticmethod
    @override
    def install(generator: Generator, config: Any) -> None:
        # Kalajdzievski 2023, "A Rank Stabilization Scaling Factor", eq. 7: alpha / sqrt(r).
        scale = math.sqrt(config.rank) if config.rslora else 1.0
        _add_terms(generator, config, lambda layer: LowRank(layer, (config.rank,), scale))

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return _inside(generator, LowRank, "lora")


class LoRAMixture(Scope):
    """The weights of several low-rank terms beside each layer; what `metatrain from-lora` makes."""

    class Config(Section):
        """The ranks of the members, and the layers that have terms."""

        name: Literal["lora_mixture"] = "lora_mixture"
        ranks: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
            default=(4, 4), min_length=1, max_length=64, description="Rank of each member's terms."
        )
        target_modules: tuple[str, ...] = _TARGETS

    @staticmethod
    @override
    def install(generator: Generator, config: Any) -> None:
        weights = MixtureWeights(len(config.ranks))
        generator.network.add_module("mixture_weights", weights)
        _add_terms(generator, config, lambda layer: LowRankMixture(layer, config.ranks, weights))

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return ["network.mixture_weights.alpha"]


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
        if not network.embedding:
            raise UserError(
                f"the scope context conditions an embedding, and {type(network).__name__} has "
                f"none; choose another inner.scope or learner."
            )
        network.context = Context(config.size, network.embedding)

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return ["network.context.vector"]


def _add_terms(generator: Generator, config: Any, term: Callable[[Layer], LowRank]) -> None:
    unknown = add_low_rank(generator.network, term, config.target_modules)
    if unknown:
        raise UserError(
            f"inner.scope.target_modules names {unknown[0]}, and "
            f"{type(generator.network).__name__} has no linear or convolutional layer of that "
            f"name; correct it, or leave target_modules out for all layers."
        )


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
    "lora_mixture": LoRAMixture,
    "head": Head,
    "body": Body,
    "context": ContextScope,
}
