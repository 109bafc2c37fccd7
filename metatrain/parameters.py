"""Parameters by name: how theta, phi, gradients and averages pass between rooms."""

from torch import Tensor, nn

Parameters = dict[str, Tensor]


def copy_of(module: nn.Module) -> Parameters:
    """The parameters of `module` as they stand, detached, by name."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}
