"""Parameters by name: the form in which theta, phi and gradients pass between rooms."""

from torch import Tensor

Parameters = dict[str, Tensor]
