"""Theta: the meta-parameters of a run, and their names."""

from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.generators import Generator
from metatrain.learning.inner.rule import InnerRule

# The prefix of the inner rule's parameters; the generator's have none.
RULE = "inner_rule."
_GENERATOR = "generator."


class Theta(nn.Module):
    """The trainable parameters of a generator and of the inner rule.

    Engines, averages, checkpoints and model files hold what `named` returns and nothing else:
    parameters that do not require gradients, such as a frozen backbone's, are no part of it.
    Buffers are constants, which the configuration decides.

    Args:
        generator: the generator.
        inner_rule: the inner loop's update rule.

    Raises:
        UserError: when the generator has BatchNorm, or a parameter is not moved by one term.
    """

    def __init__(self, generator: Generator, inner_rule: InnerRule) -> None:
        super().__init__()
        _refuse_batch_norm(generator)
        self.inner_rule, self.generator = inner_rule, generator
        self.terms = [self._moved_by(term.moves) for term in generator.objective.terms]
        self._check_terms()

    def forward(self, *draw: Tensor, term: int = 0) -> Tensor:
        """Compute a term of the generator's objective."""
        return self.generator(*draw, term=term)

    def named(self) -> dict[str, nn.Parameter]:
        """Name every meta-parameter: as in the generator, or `inner_rule.*`."""
        return {
            name.removeprefix(_GENERATOR): parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    def copy(self) -> Parameters:
        """Copy the meta-parameters as they stand, detached."""
        return {name: p.detach().clone() for name, p in self.named().items()}

    @torch.no_grad()
    def load(self, values: Parameters) -> "Theta":
        """Set the meta-parameters that `values` names."""
        named = self.named()
        for name, value in values.items():
            named[name].copy_(value)
        return self

    def by_term(self, names: Iterable[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Divide `names` among the terms that move them; terms that move none are left out."""
        names = tuple(names)
        for term, moved in enumerate(self.terms):
            if parts := tuple(name for name in names if name in moved):
                yield term, parts

    def by_update(self, names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        """Divide `names` among the updates of an inner step; those that move none are left out."""
        names = tuple(names)
        movable = (
            frozenset[str]().union(*(self.terms[term] for term in terms))
            for terms in self.generator.objective.updates
        )
        parts = (tuple(name for name in names if name in moved) for moved in movable)
        return tuple(part for part in parts if part)

    def buffer_versions(self) -> dict[str, tuple[int, int]]:
        """Return for every buffer what changes when it is written to or replaced."""
        return {name: (id(b), b._version) for name, b in self.named_buffers()}

    def _moved_by(self, prefixes: tuple[str, ...]) -> frozenset[str]:
        # An inner rule is learned by the only term; several terms have no one loss to learn it by.
        starts = tuple(f"network.{prefix}" for prefix in prefixes)
        return frozenset(n for n in self.named() if n.startswith((RULE, *starts)))

    def _check_terms(self) -> None:
        counts = Counter(name for moved in self.terms for name in moved)
        wrong = [name for name in self.named() if counts[name] != 1]
        if wrong:
            raise UserError(
                f"{wrong[0]} is moved by {counts[wrong[0]]} terms of the objective, and every "
                f"parameter is moved by one; correct `Term.moves` of "
                f"{type(self.generator.objective).__name__}, or choose a learner that learns no "
                f"inner rates."
            )


def _refuse_batch_norm(generator: nn.Module) -> None:
    for name, module in generator.named_modules():
        if isinstance(module, _BatchNorm):
            raise UserError(
                f"{name} of {type(generator).__name__} is a BatchNorm, whose running statistics "
                f"carry one task into the next; use "
                f"metatrain.generators.networks.layers.group_norm."
            )
