"""The response surface of a sweep: scores between the points that were tried, with their error.

A Gaussian process (Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning",
algorithm 2.1) whose hyperparameters maximise the marginal likelihood. Points of one trial share its
luck and its other keys, so they are not independent observations: the kernel has a term for the
trial that a point comes from.
"""

import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Sum, WhiteKernel
from typing_extensions import override

Array = NDArray[np.floating]

# Bounds of the hyperparameters: lengths in units of an axis from its first to its last point,
# variances in units of the variance of the scores.
_LENGTHS, _VARIANCES, _NOISES = (0.1, 1.6), (0.01, 10.0), (0.01, 1.0)


class ColumnsRBF(RBF):
    """A squared exponential kernel that sees only some of the columns.

    Args:
        columns: the columns that it sees.
        length_scale: the length along each of them.
        length_scale_bounds: the range of every length, or "fixed".
    """

    # scikit-learn clones kernels by the names of these arguments, which it keeps as attributes.
    def __init__(
        self,
        columns: Sequence[int],
        length_scale: Sequence[float],
        length_scale_bounds: tuple[float, float] | str = _LENGTHS,
    ) -> None:
        # Its stub knows only one length for all columns.
        super().__init__(cast(float, length_scale), length_scale_bounds)
        self.columns = columns

    @override
    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:
        columns = list(self.columns)
        return super().__call__(X[:, columns], None if Y is None else Y[:, columns], eval_gradient)


class ResponseSurface:
    """The score as a smooth function of the place that it was measured at.

    Args:
        x: points [N, D]; the first coordinate is the one that is constant within a trial.
        y: scores [N].
        trials: number of the trial that each point comes from, [N], not negative.

    Attributes:
        kernel: the fitted kernel: a surface, plus what each trial and each point adds to it.
    """

    def __init__(self, x: Array, y: Array, trials: NDArray[np.int64]) -> None:
        self._low, self._span = x.min(axis=0), np.ptp(x, axis=0)
        self._span[self._span == 0] = 1.0
        self._mean, self._scale = y.mean(), y.std() or 1.0
        self._process = GaussianProcessRegressor(kernel_of(x.shape[1]))
        with warnings.catch_warnings():
            # A length at its bound is no fault: nothing depends on that coordinate.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._process.fit(self._inputs(x, trials), (y - self._mean) / self._scale)
        self.kernel = cast(Sum, self._process.kernel_)

    def at(self, x: Array) -> tuple[Array, Array]:
        """Predict the mean and the standard deviation [M] of the surface at points [M, D]."""
        inputs = self._inputs(x, np.full(len(x), -1))
        prediction = self._process.predict(inputs, return_std=True)
        mean, deviation = cast(tuple[Array, Array], prediction)
        # scikit-learn predicts a new point of a new trial; the surface is without their share.
        variance = np.maximum(deviation**2 - self.kernel.k2.diag(inputs), 0.0)
        return self._mean + self._scale * mean, self._scale * np.sqrt(variance)

    def _inputs(self, x: Array, trials: NDArray[np.int64]) -> Array:
        """Scale points [N, D] to the unit cube and append their trials: [N, D + 1]."""
        return np.column_stack([(x - self._low) / self._span, trials.astype(float)])


def kernel_of(dimensions: int) -> Sum:
    """Build the kernel of points with their trial in the last column, with initial values.

    The first coordinate has an effect of its own besides the one that it has together with the
    others: else the term of the trials, which are constant along it too, explains it away.
    """
    together = ConstantKernel(0.6, _VARIANCES) * ColumnsRBF(range(dimensions), [0.5] * dimensions)
    first = ConstantKernel(0.6, _VARIANCES) * ColumnsRBF([0], [0.5])
    # Trials are whole numbers, so at this length no two of them have anything in common.
    trial = ConstantKernel(0.3, _VARIANCES) * ColumnsRBF([dimensions], [1e-3], "fixed")
    return (together + first) + (trial + WhiteKernel(0.05, _NOISES))
