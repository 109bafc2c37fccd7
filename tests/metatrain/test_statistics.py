"""Intervals have their nominal coverage, and tests of differences their nominal level."""

import pytest
import torch

from metatrain.evaluation.scores.statistics import (
    Difference,
    holm,
    mean_of,
    mean_of_pairs,
    mean_over,
    resamples,
    score,
)
from metatrain.metrics.frechet import Frechet
from metatrain.metrics.kid import kid_of_pairs


def normal(*shape, seed):
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=noise, dtype=torch.float64)


def estimate(statistic, tasks):
    return score(statistic, tasks).estimate


def difference(a, b, tasks):
    return score(a, tasks).minus(score(b, tasks))


def test_resamples_draw_as_many_tasks_as_there_are_and_follow_from_the_seed():
    drawn = resamples(30, count=500)
    assert (drawn.sum(dim=1) == 30).all()
    assert drawn.mean().item() == 1
    # Each task is drawn by a binomial distribution of 30 draws at 1 / 30.
    assert drawn.var().item() == pytest.approx(29 / 30, rel=0.03)
    assert drawn.equal(resamples(30, count=500))
    assert not drawn.equal(resamples(30, count=500, seed=1))


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = normal(100, seed=0) + 3
    result = estimate(mean_of(values), 100)
    assert result.value == pytest.approx(values.mean().item())
    error = values.std().item() / 10
    assert result.high - result.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_the_interval_of_kid_holds_the_true_one_as_often_as_it_says():
    # Of Gaussian tasks: the true score is that of very many tasks.
    def sample(tasks, seed):
        centres = normal(tasks, 1, 4, seed=seed)
        real, drawn = centres + 0.3 * normal(2, tasks, 4, 4, seed=seed + 5000)
        # How far off the system is, differs from task to task.
        off = 1 + 0.5 * normal(tasks, 1, 1, seed=seed + 9000)
        return kid_of_pairs(drawn + 0.5 * off, real)

    truth = sample(1000, 10_000).mean().item()
    results = [estimate(mean_of_pairs(sample(40, seed)), 40) for seed in range(200)]
    held = sum(interval.low <= truth <= interval.high for interval in results) / 200
    assert 0.88 <= held <= 0.99


def test_pooled_scores_are_of_all_tasks_and_their_intervals_lie_around_them():
    x, y = normal(2, 20, 5, 3, seed=0)
    for statistic in (Frechet(x, y), mean_of_pairs(kid_of_pairs(x, y))):
        result = estimate(statistic, 20)
        assert result.value == statistic(torch.ones(1, 20)).item()
        assert result.low < result.value < result.high


def test_seeds_are_averaged_and_not_counted_as_further_tasks():
    values = normal(50, seed=0)
    once, twice = mean_of(values), mean_over([mean_of(values), mean_of(values)])
    assert estimate(once, 50) == estimate(twice, 50)


def test_a_difference_of_nothing_is_called_significant_once_in_twenty():
    results = []
    for seed in range(400):
        task = 5 * normal(40, seed=seed)  # what the systems share
        a, b = task + normal(2, 40, seed=seed + 1000)
        results.append(difference(mean_of(a), mean_of(b), 40).significant)
    assert 0.02 <= sum(results) / 400 <= 0.09


SKEWED = {
    "exponential": (torch.Tensor.exponential_, 1.0),
    "log-normal": (lambda x, generator: x.log_normal_(0.0, 0.7, generator=generator), 1.2776213),
}


@pytest.mark.parametrize("distribution", SKEWED)
@pytest.mark.parametrize(("tasks", "least"), [(10, 0.91), (24, 0.915), (108, 0.925)])
def test_the_interval_and_p_of_skewed_scores_hold_as_they_say(distribution, tasks, least):
    fill, mean = SKEWED[distribution]
    held = 0
    for seed in range(400):
        noise = torch.Generator().manual_seed(seed)
        values = fill(torch.empty(tasks, dtype=torch.float64), generator=noise)
        result = score(mean_of(values), tasks).minus(score(mean_of(values * 0 + mean), tasks))
        assert result.significant == (not result.low <= 0 <= result.high)
        held += result.low <= 0 <= result.high
    # 400 trials have a standard error of 0.011. Percentiles held the mean in 0.84 to 0.93 of them.
    assert least <= held / 400 <= 0.985


def test_the_interval_of_a_share_that_few_tasks_have_ends():
    values = torch.zeros(24).double()
    values[0] = 1
    result = estimate(mean_of(values), 24)
    assert result.low < 1 / 24 < result.high < 0.3


def test_a_ratio_has_the_interval_of_the_delta_method():
    a, b = 3 + normal(2, 400, seed=0)
    ratio = score(mean_of(a), 400).over(score(mean_of(b), 400))
    error = ((a - ratio.value * b).std() / b.mean() / 20).item()
    assert ratio.value == pytest.approx((a.mean() / b.mean()).item())
    assert ratio.estimate.high - ratio.estimate.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    same = score(mean_of(b), 400).over(score(mean_of(b), 400)).estimate
    assert (same.low, same.value, same.high) == (1, 1, 1)


def test_one_task_tells_no_difference():
    a, b = (mean_of(torch.tensor([value])) for value in (1.0, 2.0))
    assert difference(a, b, 1) == Difference(-1, -1, -1, 1)


def test_holm_adjusts_each_p_by_the_number_of_those_that_are_left():
    # By hand: 0.01 * 4, 0.02 * 3, then what came before, at most 1.
    assert holm([0.04, 0.01, 0.9, 0.02]) == pytest.approx([0.08, 0.04, 0.9, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_systems_share_does_not_hide_how_they_differ():
    task = 5 * normal(40, seed=0)
    a, b = task + 0.1 * normal(2, 40, seed=1)
    result = difference(mean_of(a + 0.2), mean_of(b), 40)
    assert result.significant
    assert result.low < 0.2 < result.high
    # Each alone is known far less well than their difference.
    assert estimate(mean_of(a), 40).high - estimate(mean_of(a), 40).low > 10 * 0.2


def test_equal_systems_do_not_differ():
    values = mean_of(normal(20, seed=0))
    assert difference(values, values, 20) == Difference(0, 0, 0, 1)
