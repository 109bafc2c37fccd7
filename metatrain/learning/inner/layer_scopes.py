"""Scopes of layers by their kind: those that modulate, normalise or attend."""

from abc import abstractmethod
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from torch import nn
from typing_extensions import override

from metatrain.generators import Generator
from metatrain.generators.networks.layers import FiLM
from metatrain.generators.networks.network import Network
from metatrain.learning.inner.deltas import add_deltas
from metatrain.learning.inner.scope import Scope, names_inside
from metatrain.learning.inner.sections import (
    AttentionScopeConfig,
    FilmScopeConfig,
    NormsScopeConfig,
)

_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class LayerScope(Scope):
    """The parameters of some layers; of a frozen network, changes beside them.

    Attributes:
        kind: of the layers, for messages.
    """

    kind: ClassVar[str]

    @staticmethod
    @abstractmethod
    def layers(network: Network) -> list[str]:
        """Name the layers."""

    @classmethod
    @override
    def install(cls, generator: Generator, config: Any) -> None:
        network = generator.network
        if not any(parameter.requires_grad for parameter in network.parameters()):
            add_deltas(network, cls.layers(network))

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return names_inside(generator, cls.layers(generator.network), cls.kind, cls.Config)


class Film(LayerScope):
    """The layers that modulate features by an embedding, as FiLM (Perez et al. 2018)."""

    kind = "layers that modulate features"

    Config = FilmScopeConfig

    @staticmethod
    @override
    def layers(network: Network) -> list[str]:
        modules = network.named_modules()
        return [n for n, m in modules if isinstance(m, FiLM) or _matches(n, network.film_layers)]


class Norms(LayerScope):
    """The scales and shifts of normalisation layers."""

    kind = "normalisation with scales of its own"

    Config = NormsScopeConfig

    @staticmethod
    @override
    def layers(network: Network) -> list[str]:
        # diffusers has an RMSNorm of its own.
        return [
            name
            for name, module in network.named_modules()
            if isinstance(module, _NORMS) or type(module).__name__ == "RMSNorm"
        ]


class Attention(LayerScope):
    """The projections of attention."""

    kind = "attention"

    Config = AttentionScopeConfig

    @staticmethod
    @override
    def layers(network: Network) -> list[str]:
        return [
            name for name, _ in network.named_modules() if _matches(name, network.attention_layers)
        ]


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
