"""What scores would be between the points that were tried, and how sure one can be of it.

A Gaussian process (Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning",
algorithm 2.1), in a few lines because it is all that is needed of a library of them. Points of one
trial share what the trial had of good or bad luck and of other keys, so they are not as many
witnesses as they are points; the kernel knows which trial a point is from.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

# Tried for every length, in units of the axis from its first to its last point, and for how the
# variance divides: into the surface, what a trial has for itself, and noise.
_LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)
_SHARES = ((0.9, 0.05, 0.05), (0.6, 0.35, 0.05), (0.3, 0.65, 0.05), (0.5, 0.25, 0.25))


@dataclass(frozen=True)
class Kernel:
    """Covariance of scores.

    Attributes:
        lengths: how far along each axis the surface stays alike.
        signal: variance of the surface.
        trial: variance of what the points of one trial have in common.
        noise: variance of a point by itself.
    """

    lengths: tuple[float, ...]
    signal: float
    trial: float
    noise: float

    def surface(self, a: Array, b: Array) -> Array:
        """Covariance [N, M] of the surface at points [N, D] and [M, D]."""
        away = (a[:, None] - b[None]) / np.array(self.lengths)
        return self.signal * np.exp(-0.5 * (away**2).sum(axis=-1))

    def observed(self, x: Array, trials: NDArray[np.int64]) -> Array:
        """Covariance [N, N] of what was seen at points of trials."""
        same = trials[:, None] == trials[None]
        return self.surface(x, x) + self.trial * same + self.noise * np.eye(len(x))


class Surface:
    """The scores as a smooth function of where they were taken.

    Args:
        x: points [N, D].
        y: scores [N].
        trials: which trial each point is from, [N].
    """

    def __init__(self, x: Array, y: Array, trials: NDArray[np.int64]) -> None:
        self._low, self._span = x.min(axis=0), np.ptp(x, axis=0)
        self._span[self._span == 0] = 1.0
        self._x, self._mean, self._scale = self._unit(x), y.mean(), y.std() or 1.0
        target = (y - self._mean) / self._scale
        self.kernel = max(_kernels(x.shape[1]), key=lambda k: _evidence(k, self._x, target, trials))
        self._factor = np.linalg.cholesky(self.kernel.observed(self._x, trials))
        self._weights = _solve(self._factor, target)

    def at(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation [M] of the surface at points [M, D]."""
        between = self.kernel.surface(self._unit(x), self._x)
        known = np.linalg.solve(self._factor, between.T)
        variance = np.maximum(self.kernel.signal - (known**2).sum(axis=0), 0.0)
        mean = self._mean + self._scale * between @ self._weights
        return mean, self._scale * np.sqrt(variance)

    def _unit(self, x: Array) -> Array:
        return (x - self._low) / self._span


def _kernels(dimensions: int) -> list[Kernel]:
    lengths = product(_LENGTHS, repeat=dimensions)
    return [Kernel(length, *shares) for length in lengths for shares in _SHARES]


def _evidence(kernel: Kernel, x: Array, y: Array, trials: NDArray[np.int64]) -> float:
    """Log marginal likelihood but for a constant; eq. 2.30."""
    factor = np.linalg.cholesky(kernel.observed(x, trials))
    return float(-0.5 * y @ _solve(factor, y) - np.log(np.diag(factor)).sum())


def _solve(factor: Array, y: Array) -> Array:
    return np.linalg.solve(factor.T, np.linalg.solve(factor, y))
