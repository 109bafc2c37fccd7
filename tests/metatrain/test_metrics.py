import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metatrain.metrics.kid import kid
from metatrain.metrics.retrieval import own_task_share


@given(st.integers(1, 3), st.integers(2, 4), st.integers(1, 5), st.integers(0, 2**32))
def test_kid_is_the_sums_of_its_definition(tasks, images, d, seed):
    noise = torch.Generator().manual_seed(seed)
    x = torch.randn(tasks, images, d, generator=noise, dtype=torch.float64)
    y = torch.randn(tasks, images + 1, d, generator=noise, dtype=torch.float64) + 1

    def k(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / d + 1) ** 3

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    def within(z):
        pairs = [(t, s) for t in range(tasks) for s in range(tasks)]
        own = range(len(z[0]))
        return mean(
            mean(k(z[t][i], z[s][j]) for i in own for j in own if t != s or i != j)
            for t, s in pairs
        )

    xy = mean(k(a, b) for a in x.flatten(0, 1) for b in y.flatten(0, 1))
    assert kid(x, y) == pytest.approx(within(x) + within(y) - 2 * xy, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("tasks", [2, 8, 32])
def test_kid_of_real_images_against_real_ones_of_the_same_tasks_is_zero_on_average(tasks):
    noise = torch.Generator().manual_seed(0)
    values = []
    for _ in range(1000):
        centres = 2 * torch.randn(tasks, 1, 8, generator=noise, dtype=torch.float64)
        x, y = centres + torch.randn(2, tasks, 5, 8, generator=noise, dtype=torch.float64)
        values.append(kid(x, y))
    mean, error = torch.tensor(values).mean(), torch.tensor(values).std() / 1000**0.5
    assert abs(mean) < 3 * error
    assert min(values) < 0


def test_kid_needs_two_images_of_a_task_on_either_side():
    with pytest.raises(ValueError, match="at least two"):
        kid(torch.zeros(3, 1, 2), torch.zeros(3, 2, 2))


def test_own_task_share_counts_the_images_nearest_to_their_own_task():
    references = torch.eye(3)[:, None].expand(3, 4, 3)
    features = torch.eye(3)[:, None].repeat(1, 2, 1)
    assert own_task_share(features, references).tolist() == [1.0, 1.0, 1.0]
    features[0, 1] = torch.tensor([0.1, 0.9, 0.0])  # one image of the first task looks like another
    assert own_task_share(features, references).tolist() == [0.5, 1.0, 1.0]


def test_own_task_share_of_noise_is_chance():
    noise = torch.Generator().manual_seed(0)
    features, references = torch.randn(2, 50, 40, 16, generator=noise)
    assert own_task_share(features, references).mean().item() == pytest.approx(1 / 50, abs=0.01)
