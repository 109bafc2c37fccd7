"""The response surface: exact where it can be computed another way, and honest about the rest."""

import numpy as np
import pytest

from tuning.surface import ResponseSurface, kernel_of


def bowl(x):
    return (x[:, 0] - 0.3) ** 2 + 0.5 * (x[:, 1] - 0.6) ** 2


def sweep(seed, luck):
    """Scores of 12 trials at 5 numbers of steps each: a bowl, the luck of each trial, and noise."""
    rng = np.random.default_rng(seed)
    rates, ks = rng.uniform(size=12), np.linspace(0, 1, 5)
    trials = np.repeat(np.arange(12), 5)
    x = np.stack([np.repeat(rates, 5), np.tile(ks, 12)], axis=1)
    y = bowl(x) + rng.normal(scale=luck, size=12)[trials] + rng.normal(scale=0.01, size=len(x))
    return x, y, trials


def cells():
    axis = np.linspace(0, 1, 41)
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)


def test_mean_and_deviation_are_those_of_the_conditional_gaussian():
    x, y, trials = sweep(seed=0, luck=0.02)
    surface, new = ResponseSurface(x, y, trials), np.array([[0.1, 0.2], [0.5, 0.5], [0.9, 0.1]])
    together, first = surface.kernel.k1.k1, surface.kernel.k1.k2
    trial, noise = surface.kernel.k2.k1, surface.kernel.k2.k2
    low, span = x.min(axis=0), np.ptp(x, axis=0)

    def one(u, v):  # element by element, with no algebra of the code's
        away = sum(((u[d] - v[d]) / together.k2.length_scale[d]) ** 2 for d in range(2))
        alone = ((u[0] - v[0]) / first.k2.length_scale) ** 2
        variances = together.k1.constant_value, first.k1.constant_value
        return variances[0] * np.exp(-away / 2) + variances[1] * np.exp(-alone / 2)

    def covariance(a, b):
        return np.array([[one((u - low) / span, (v - low) / span) for v in b] for u in a])

    observed = covariance(x, x) + noise.noise_level * np.eye(len(x))
    same = np.array([[float(s == t) for t in trials] for s in trials])
    observed += trial.k1.constant_value * same
    inverse, between = np.linalg.inv(observed), covariance(new, x)
    mean, deviation = surface.at(new)
    expected = y.mean() + y.std() * between @ inverse @ ((y - y.mean()) / y.std())
    variance = np.diag(covariance(new, new) - between @ inverse @ between.T)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    np.testing.assert_allclose(deviation, y.std() * np.sqrt(variance), rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_lowest_point_is_found_between_the_points_that_were_tried(seed):
    mean, _ = ResponseSurface(*sweep(seed, luck=0.02)).at(cells())
    lowest = cells()[mean.argmin()]
    assert abs(lowest[0] - 0.3) < 0.15
    assert abs(lowest[1] - 0.6) < 0.15


@pytest.mark.parametrize("seed", range(4))
def test_the_effect_of_the_rate_is_not_taken_for_the_luck_of_trials(seed):
    x, y, trials = sweep(seed, luck=0.05)
    mean, deviation = ResponseSurface(x, y, trials).at(cells())
    tried = (cells()[:, 0] > x[:, 0].min()) & (cells()[:, 0] < x[:, 0].max())
    error = (mean - bowl(cells()))[tried]
    assert np.sqrt((error**2).mean()) < 0.05
    # Within two standard deviations nearly everywhere.
    assert np.quantile(np.abs(error) / deviation[tried], 0.9) < 2


def test_the_deviation_grows_away_from_the_points():
    x, y, trials = sweep(seed=0, luck=0.02)
    _, deviation = ResponseSurface(x, y, trials).at(np.array([x.mean(axis=0), [5.0, 5.0]]))
    assert deviation[1] > 2 * deviation[0]


def test_points_of_one_trial_tell_less_than_those_of_as_many_trials():
    kernel = kernel_of(2)

    def variance_of_mean(trials):
        points = np.stack([np.full(6, 0.5), np.linspace(0, 1, 6), trials], axis=1)
        return kernel(points).mean()

    assert variance_of_mean([0] * 6) > variance_of_mean(range(6)) + 0.2


def test_scores_that_are_all_the_same_give_a_flat_surface():
    x, _, trials = sweep(seed=0, luck=0.02)
    mean, deviation = ResponseSurface(x, np.full(len(x), 0.7), trials).at(cells())
    np.testing.assert_allclose(mean, 0.7)
    assert np.isfinite(deviation).all()
