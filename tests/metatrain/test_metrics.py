import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metatrain.metrics.kid import kid
from metatrain.metrics.retrieval import own_task_share


@given(st.integers(2, 6), st.integers(2, 6), st.integers(1, 5), st.integers(0, 2**32))
def test_kid_is_the_double_sum_of_its_definition(n, m, d, seed):
    noise = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=noise, dtype=torch.float64)
    y = torch.randn(m, d, generator=noise, dtype=torch.float64) + 1

    def k(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / d + 1) ** 3

    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    assert kid(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-9, abs=1e-9)


def test_kid_is_unbiased_where_both_sides_are_one_distribution():
    noise = torch.Generator().manual_seed(0)
    values = [kid(*torch.randn(2, 8, 4, generator=noise, dtype=torch.float64)) for _ in range(4000)]
    mean, error = torch.tensor(values).mean(), torch.tensor(values).std() / 4000**0.5
    assert abs(mean) < 3 * error
    assert min(values) < 0


def test_kid_needs_two_images_on_either_side():
    with pytest.raises(ValueError, match="at least two"):
        kid(torch.zeros(1, 2), torch.zeros(2, 2))


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
