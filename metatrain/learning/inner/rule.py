"""The inner update rule: from a direction to the next fast weights."""

from torch import Tensor, nn

from metatrain.base.parameters import Parameters


class InnerRule(nn.Module):
    """phi <- phi - lr * direction; learners that learn their rates put a rule of their own here.

    Its parameters are meta-parameters, part of theta as `inner_rule.*`.
    """

    def forward(
        self, phi: Parameters, direction: Parameters, gradient: Parameters, step: int, lr: float
    ) -> Parameters:
        """The fast weights after an inner step.

        Args:
            phi: the fast weights before it, those in scope.
            direction: what the inner optimiser makes of `gradient`, shaped like `phi`.
            gradient: of the support loss at `phi`.
            step: the number of the inner step, from 0.
            lr: the inner rate of the configuration.
        """
        return {name: p - lr * direction[name] for name, p in phi.items()}

    def rates(self, lr: float) -> Tensor | None:
        """Every learned rate as it stands, to be logged; None where none is learned."""
        return None


def attribute_name(parameter: str) -> str:
    """A parameter's name as the name of an attribute, which torch allows no dots in."""
    return parameter.replace(".", ":")
