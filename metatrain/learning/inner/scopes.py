"""Scopes: the parameters that the inner loop moves."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.generators import Generator
from metatrain.generators.networks.layers import Context
from metatrain.learning.inner.layer_scopes import Attention, Film, Norms
from metatrain.learning.inner.low_rank import (
    TERM,
    Layer,
    LowRank,
    LowRankMixture,
    MixtureWeights,
    add_low_rank,
    low_rank_terms,
)
from metatrain.learning.inner.scope import All, Scope, names_inside

_TARGETS = Field(
    default=(), description="Layers with a term, by the end of their names, as to_q; none is all."
)


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

    @classmethod
    @override
    def install(cls, generator: Generator, config: Any) -> None:
        # Kalajdzievski 2023, "A Rank Stabilization Scaling Factor", eq. 7: alpha / sqrt(r).
        scale = math.sqrt(config.rank) if config.rslora else 1.0
        _add_terms(generator, config, lambda layer: LowRank(layer, (config.rank,), scale))

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        terms = [f"{layer}.{TERM}" for layer in low_rank_terms(generator.network)]
        return names_inside(generator, terms, "linear or convolutional layers", cls.Config)


class LoRAMixture(Scope):
    """The weights of several low-rank terms beside each layer; what `metatrain from-lora` makes."""

    class Config(Section):
        """The ranks of the members, and the layers that have terms."""

        name: Literal["lora_mixture"] = "lora_mixture"
        ranks: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
            default=(4, 4), min_length=1, max_length=64, description="Rank of each member's terms."
        )
        target_modules: tuple[str, ...] = _TARGETS

    @classmethod
    @override
    def install(cls, generator: Generator, config: Any) -> None:
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

    @classmethod
    @override
    def install(cls, generator: Generator, config: Any) -> None:
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


def _in_head(name: str, generator: Generator) -> bool:
    return name.startswith(tuple(f"network.{module}." for module in generator.network.head))


SCOPES: dict[str, type[Scope]] = {
    "all": All,
    "film": Film,
    "norms": Norms,
    "attention": Attention,
    "lora": LoRA,
    "lora_mixture": LoRAMixture,
    "head": Head,
    "body": Body,
    "context": ContextScope,
}
