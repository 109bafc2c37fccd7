"""A scope: a choice of the parameters that the inner loop moves."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.generators import Generator
from metatrain.learning.inner.sections import AllScopeConfig


class Scope(ABC):
    """A choice of parameters; some scopes add the parameters that they move to the generator."""

    Config: ClassVar[type[Section]]

    @classmethod
    def install(cls, generator: Generator, config: Any) -> None:
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

    Config = AllScopeConfig

    @classmethod
    @override
    def names(cls, generator: Generator) -> list[str]:
        return [name for name, p in generator.named_parameters() if p.requires_grad]


def names_inside(
    generator: Generator, layers: Iterable[str], kind: str, config: type[Section]
) -> list[str]:
    """Name the parameters inside layers of the network.

    Args:
        generator: the generator.
        layers: their names in its network.
        kind: of layers, for the message.
        config: the section of the scope.

    Raises:
        UserError: when there are none.
    """
    starts = tuple(f"network.{layer}." for layer in layers)
    every = All.names(generator)
    names = [name for name in every if name.startswith(starts)]
    if not names:
        raise UserError(
            f"inner.scope.name={config.model_fields['name'].default} moves no parameter of "
            f"{type(generator.network).__name__}, which has no {kind}; use "
            f"inner.scope.name={'all' if every else 'lora'}."
        )
    return names
