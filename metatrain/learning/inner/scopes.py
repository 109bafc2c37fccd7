"""Scopes: the parameters that the inner loop moves."""

import math
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.generators import Generator
from metatrain.generators.networks.layers import Context
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
from metatrain.learning.inner.sections import (
    BodyScopeConfig,
    ContextScopeConfig,
    HeadScopeConfig,
    LoRAMixtureScopeConfig,
    LoRAScopeConfig,
)


class LoRA(Scope):
    """A low-rank term beside every linear and convolutional layer, or beside some of them."""

    Config = LoRAScopeConfig

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

    Config = LoRAMixtureScopeConfig

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

    Config = HeadScopeConfig

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return [name for name in All.names(generator) if _in_head(name, generator)]


class Body(Scope):
    """All but the last layers, as in BOIL."""

    Config = BodyScopeConfig

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return [name for name in All.names(generator) if not _in_head(name, generator)]


class ContextScope(Scope):
    """One vector that conditions the generator, as in CAVIA."""

    Config = ContextScopeConfig

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
