"""The response surface: exact where it can be computed another way, and honest about the rest."""

import numpy as np
import pytest

from tuning.surface import Kernel, Surface


@pytest.fixture
def seen():
    """A bowl with its lowest point at (0.3, 0.6), seen by 12 trials at 5 numbers of steps each."""
    rng = np.random.default_rng(0)
    rates, ks = rng.uniform(size=12), np.linspace(0, 1, 5)
    trials = np.repeat(np.arange(12), 5)
    x = np.stack([np.repeat(rates, 5), np.tile(ks, 12)], axis=1)
    luck = rng.normal(scale=0.02, size=12)[trials]
    return x, bowl(x) + luck + rng.normal(scale=0.01, size=len(x)), trials


def bowl(x):
    return (x[:, 0] - 0.3) ** 2 + 0.5 * (x[:, 1] - 0.6) ** 2


def test_mean_and_deviation_are_those_of_the_conditional_gaussian(seen):
    x, y, trials = seen
    surface, new = Surface(x, y, trials), np.array([[0.1, 0.2], [0.5, 0.5], [0.9, 0.1]])
    kernel = surface.kernel
    low, span = x.min(axis=0), np.ptp(x, axis=0)

    def one(u, v):  # element by element, with no algebra of the code's
        away = sum(((u[d] - v[d]) / kernel.lengths[d]) ** 2 for d in range(2))
        return kernel.signal * np.exp(-away / 2)

    def covariance(a, b):
        return np.array([[one((u - low) / span, (v - low) / span) for v in b] for u in a])

    own = covariance(x, x) + kernel.noise * np.eye(len(x))
    own += kernel.trial * np.array([[float(s == t) for t in trials] for s in trials])
    inverse, between = np.linalg.inv(own), covariance(new, x)
    mean, deviation = surface.at(new)
    expected = y.mean() + y.std() * between @ inverse @ ((y - y.mean()) / y.std())
    variance = kernel.signal - np.diag(between @ inverse @ between.T)
    np.testing.assert_allclose(mean, expected, rtol=1e-8)
    np.testing.assert_allclose(deviation, y.std() * np.sqrt(variance), rtol=1e-6)


def test_the_lowest_point_is_found_between_the_points_that_were_tried(seen):
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 1, 41)), -1).reshape(-1, 2)
    mean, _ = Surface(*seen).at(grid)
    lowest = grid[mean.argmin()]
    assert abs(lowest[0] - 0.3) < 0.15
    assert abs(lowest[1] - 0.6) < 0.25


def test_far_from_what_was_tried_it_is_unsure(seen):
    x, _, _ = seen
    _, deviation = Surface(*seen).at(np.array([x.mean(axis=0), [5.0, 5.0]]))
    assert deviation[1] > 2 * deviation[0]


def test_points_of_one_trial_are_not_as_many_witnesses_as_points():
    x = np.array([[0.5, k] for k in np.linspace(0, 1, 6)])
    one = Kernel((0.5, 0.5), signal=1.0, trial=0.5, noise=0.01).observed(x, np.zeros(6, int))
    many = Kernel((0.5, 0.5), signal=1.0, trial=0.5, noise=0.01).observed(x, np.arange(6))
    # How sure the mean of all is.
    weights = np.full(6, 1 / 6)
    assert weights @ one @ weights > weights @ many @ weights + 0.3
