"""Inner optimisers that move parameters in place, where nothing has to be differentiated.

They call the functions behind torch's optimiser classes. The first of those classes that a process
makes imports the compiler, which takes 1.5 s of CPU: longer than many an adaptation.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from metatrain.learning.inner.optimizers import BETA2, EPSILON


class InPlaceOptimizer(Protocol):
    """An optimiser of one task, whose state starts at zero."""

    def step(self) -> None:
        """Move the parameters that have gradients by them."""
        ...


class InPlaceSGD:
    """Gradient descent, with heavy-ball momentum where it is not 0.

    Args:
        parameters: the parameters to move.
        lr: the rate.
        momentum: the momentum.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, lr: float, momentum: float) -> None:
        self._parameters, self._lr, self._momentum = parameters, lr, momentum
        self._velocity: dict[Tensor, Tensor | None] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters that have gradients by them."""
        moved, gradients = _with_gradients(self._parameters)
        velocity = [self._velocity.get(parameter) for parameter in moved]
        sgd(
            moved,
            gradients,
            velocity,
            weight_decay=0.0,
            momentum=self._momentum,
            lr=self._lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        self._velocity |= zip(moved, velocity, strict=True)


class InPlaceAdam:
    """Adam, fused: unfused, its many small operations cost a tenth of an inner step on a CPU.

    Args:
        parameters: the parameters to move.
        lr: the rate.
        beta1: the decay of the first moments.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, lr: float, beta1: float) -> None:
        self._parameters, self._lr, self._beta1 = parameters, lr, beta1
        # The meta device, which plans use, has no fused kernel.
        self._fused = not parameters[0].is_meta
        # Both moments, and the number of gradients behind them.
        self._state: dict[Tensor, tuple[Tensor, Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters that have gradients by them."""
        moved, gradients = _with_gradients(self._parameters)
        for parameter in moved:
            if parameter not in self._state:
                self._state[parameter] = self._start(parameter)
        first, second, counts = (
            list(part) for part in zip(*(self._state[p] for p in moved), strict=True)
        )
        adam(
            moved,
            gradients,
            first,
            second,
            [],
            counts,
            fused=self._fused,
            foreach=False,
            amsgrad=False,
            beta1=self._beta1,
            beta2=BETA2,
            lr=self._lr,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def _start(self, parameter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = torch.zeros((), device=parameter.device if self._fused else "cpu")
        return torch.zeros_like(parameter), torch.zeros_like(parameter), count


def _with_gradients(parameters: Sequence[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    moved: list[Tensor] = [parameter for parameter in parameters if parameter.grad is not None]
    return moved, [parameter.grad for parameter in moved if parameter.grad is not None]
