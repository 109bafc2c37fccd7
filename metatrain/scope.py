"""Scopes: which parameters the inner loop moves."""

from typing import Literal

from torch import nn

from metatrain.errors import UserError
from metatrain.generators.layers import FiLM

Scope = Literal["all", "film"]


def names_in_scope(generator: nn.Module, scope: Scope) -> list[str]:
    """Names of the parameters that `scope` moves, in the order of `named_parameters`.

    Raises:
        UserError: when the generator has no such parameters.
    """
    if scope == "all":
        return [name for name, _ in generator.named_parameters()]
    modulations = [name for name, module in generator.named_modules() if isinstance(module, FiLM)]
    names = [
        name
        for name, _ in generator.named_parameters()
        if any(name.startswith(f"{modulation}.") for modulation in modulations)
    ]
    if not names:
        raise UserError(
            f"inner.scope '{scope}' moves no parameter of {type(generator).__name__}, which has "
            f"no FiLM layers; use inner.scope=all."
        )
    return names
