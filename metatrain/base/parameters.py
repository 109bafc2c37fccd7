"""Parameters by name: the form in which theta, phi and gradients pass between rooms."""

from torch import Tensor, nn

Parameters = dict[str, Tensor]


def copy_of(module: nn.Module) -> Parameters:
    """Copy the parameters of `module` as they stand, detached, by name."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def host_copy(parameters: Parameters) -> Parameters:
    """Copy to the host's memory; later changes of the original do not reach the copy."""
    return {name: p.detach().to("cpu", copy=True) for name, p in parameters.items()}
