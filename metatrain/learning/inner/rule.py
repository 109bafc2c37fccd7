"""The inner update rule: from a direction to the next fast weights."""

from torch import Tensor, nn

from metatrain.base.parameters import Parameters


class InnerRule(nn.Module):
    """The update phi <- phi - lr * direction; learners with learned rates replace it.

    A rule's parameters are meta-parameters, part of theta as `inner_rule.*`.
    """

    def forward(
        self, phi: Parameters, direction: Parameters, gradient: Parameters, step: int, lr: float
    ) -> Parameters:
        """Compute the fast weights after an inner step.

        Args:
            phi: the fast weights in scope before the step.
            direction: the inner optimiser's, for `gradient`; shaped like `phi`.
            gradient: of the support loss at `phi`.
            step: the number of the inner step, from 0.
            lr: the inner rate of the configuration.
        """
        return {name: p - lr * direction[name] for name, p in phi.items()}

    def rates(self, lr: float) -> Tensor | None:
        """Return every learned rate, to log; None where none is learned."""
        return None


def attribute_name(parameter: str) -> str:
    """Convert a parameter's name to an attribute's, in which torch allows no dots."""
    return parameter.replace(".", ":")
