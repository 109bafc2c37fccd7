"""Inner optimisers as pure functions that can be differentiated through.

They agree with torch's in-place optimisers (a test compares them), which are used where nothing has
to be differentiated. Their state is reset for every task, and is kept by name: an update may move
some of the parameters, and leaves the state of the others as it is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metatrain.base.parameters import Parameters

State = dict[str, Any]
BETA2, EPSILON = 0.999, 1e-8


class Direction(NamedTuple):
    """An optimiser's direction, before the rate is applied, and its next state."""

    direction: Parameters
    state: State


def sgd(gradient: Parameters, state: State, momentum: float) -> Direction:
    """Return the gradient itself as the direction."""
    return Direction(gradient, state)


def heavy_ball(gradient: Parameters, state: State, momentum: float) -> Direction:
    """Apply heavy-ball momentum (Sutskever et al. 2013, eq. 1, the rate outside as in torch)."""
    velocity = {
        name: momentum * state[name] + g if name in state else g for name, g in gradient.items()
    }
    return Direction(velocity, state | velocity)


def adam(gradient: Parameters, state: State, momentum: float) -> Direction:
    """Apply Adam (Kingma and Ba 2015, algorithm 1), with `momentum` for beta_1."""
    moments = {name: _moments(g, state.get(name), momentum) for name, g in gradient.items()}
    direction = {
        name: (m / (1 - momentum**count)) / (_square_root(v / (1 - BETA2**count)) + EPSILON)
        for name, (m, v, count) in moments.items()
    }
    return Direction(direction, state | moments)


def _moments(
    g: Tensor, before: tuple[Tensor, Tensor, int] | None, momentum: float
) -> tuple[Tensor, Tensor, int]:
    """Compute both moments after a gradient, and the number of gradients behind them."""
    first, second = (1 - momentum) * g, (1 - BETA2) * g.square()
    if before is None:
        return first, second, 1
    return momentum * before[0] + first, BETA2 * before[1] + second, before[2] + 1


def _square_root(v: Tensor) -> Tensor:
    # Where every gradient so far was 0, as behind a layer that starts at 0, the step is 0, and its
    # derivative is defined as 0: the slope of m / (sqrt(v) + eps) there is 1 / eps, and one such
    # weight would drown all others.
    return torch.where(v == 0, torch.inf, v).sqrt()


OPTIMIZERS: dict[str, Callable[[Parameters, State, float], Direction]] = {
    "sgd": sgd,
    "momentum": heavy_ball,
    "adam": adam,
}
