"""Parameters by name: how theta, phi, gradients and averages pass between rooms."""

from torch import Tensor, nn

Parameters = dict[str, Tensor]


def copy_of(module: nn.Module) -> Parameters:
    """The parameters of `module` as they stand, detached, by name."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def host_copy(parameters: Parameters) -> Parameters:
    """A copy in the host's memory, which later changes of the original do not reach."""
    return {name: p.detach().to("cpu", copy=True) for name, p in parameters.items()}
