"""The exponential moving average of the meta-parameters."""

import torch

from metatrain.parameters import Parameters


class MovingAverage:
    """theta_ema <- d theta_ema + (1 - d) theta, with d rising to its final value.

    The rise min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage, keeps
    the random start out of the average of a short run.
    """

    def __init__(self, parameters: Parameters, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Parameters, step: int) -> None:
        """Take in the parameters after outer step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, average in self.parameters.items():
            average.lerp_(parameters[name], 1 - decay)
