"""Averages of the meta-parameters over the outer steps."""

import numpy as np
import torch
from typing_extensions import override

from metatrain.base.parameters import Parameters

# Relative lengths of the two averages from which any other is computed (Karras et al. 2024, 3.2).
TRACKS = (0.05, 0.10)


class MovingAverage:
    """Exponential moving average theta_ema <- d theta_ema + (1 - d) theta, d rising to its maximum.

    The rise min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage, keeps
    the random start out of the average of a short run.

    Args:
        parameters: the average so far.
        decay: the maximum of d.
    """

    def __init__(self, parameters: Parameters, decay: float) -> None:
        self._final = decay
        self.parameters = {name: p.detach().clone() for name, p in parameters.items()}

    def decay(self, step: int) -> float:
        """Return d at outer step `step`, counted from 0."""
        return min(self._final, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, parameters: Parameters, step: int) -> None:
        """Add the parameters after outer step `step`, counted from 0."""
        decay = self.decay(step)
        for name, average in self.parameters.items():
            average.lerp_(parameters[name], 1 - decay)


class PowerAverage(MovingAverage):
    """Average over t outer steps in which the weight of step i grows as i^gamma.

    Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models",
    section 3.1: theta_ema <- beta theta_ema + (1 - beta) theta, beta = (1 - 1/t)^(gamma + 1).
    Nothing of the start is left after the first step.

    Args:
        parameters: the average so far; any values before the first step.
        sigma: its relative length, see `gamma_of`.
    """

    def __init__(self, parameters: Parameters, sigma: float) -> None:
        super().__init__(parameters, decay=1.0)
        self._power = gamma_of(sigma) + 1

    @override
    def decay(self, step: int) -> float:
        return (1 - 1 / (step + 1)) ** self._power


def gamma_of(sigma: float) -> float:
    """Compute the power whose profile has a standard deviation of `sigma` training lengths.

    Karras et al. 2024, algorithm 2: the root of sigma = (g + 1)^(1/2) (g + 2)^-1 (g + 3)^(-1/2).
    """
    inverse = sigma**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())
