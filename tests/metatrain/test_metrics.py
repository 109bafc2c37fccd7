"""Tests of every metric against its plain definition, or against a case with a known answer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from metatrain.metrics.classification import accuracy
from metatrain.metrics.density_coverage import coverage, density
from metatrain.metrics.diversity import diversity
from metatrain.metrics.fidelity import psnr, ssim
from metatrain.metrics.frechet import Frechet, frechet_distance, frechet_floor
from metatrain.metrics.kid import kid, kid_of_pairs
from metatrain.metrics.memorisation import LEVEL, Memorisation, nearest_index
from metatrain.metrics.precision_recall import precision, recall
from metatrain.metrics.retrieval import own_task_share


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=noise(seed), dtype=torch.float64)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def cubic(a, b):
    return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3


def kid_written_out(x, y, tasks):
    """Compute the KID of some tasks, named by number, with repetitions."""

    def within(z):
        own = range(len(z[0]))
        return mean(
            mean(cubic(z[t][i], z[s][j]) for i in own for j in own if t != s or i != j)
            for t in tasks
            for s in tasks
        )

    between = mean(cubic(a, b) for t in tasks for s in tasks for a in x[t] for b in y[s])
    return within(x) + within(y) - 2 * between


@given(st.integers(1, 3), st.integers(2, 4), st.integers(1, 5), st.integers(0, 2**32))
def test_kid_is_the_sums_of_its_definition(tasks, images, d, seed):
    x, y = normal(tasks, images, d, seed=seed), normal(tasks, images + 1, d, seed=seed + 1) + 1
    expected = kid_written_out(x, y, range(tasks))
    assert kid(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_kid_of_tasks_drawn_again_compares_no_image_with_itself():
    x, y = normal(3, 2, 4), normal(3, 3, 4, seed=1) + 1
    shares = torch.tensor([2 / 3, 0, 1 / 3], dtype=torch.float64)
    result = shares @ kid_of_pairs(x, y) @ shares
    assert result.item() == pytest.approx(kid_written_out(x, y, [0, 0, 2]), rel=1e-12)


@pytest.mark.parametrize("tasks", [2, 8, 32])
def test_kid_of_real_images_against_real_ones_of_the_same_tasks_is_zero_on_average(tasks):
    values = []
    for seed in range(1000):
        centres = 2 * normal(tasks, 1, 8, seed=seed)
        x, y = centres + normal(2, tasks, 5, 8, seed=seed + 1000)
        values.append(kid(x, y))
    result, error = torch.tensor(values).mean(), torch.tensor(values).std() / 1000**0.5
    assert abs(result) < 3 * error
    assert min(values) < 0


def test_kid_needs_two_images_of_a_task_on_either_side():
    with pytest.raises(ValueError, match="at least two"):
        kid(torch.zeros(3, 1, 2), torch.zeros(3, 2, 2))


def test_frechet_distance_of_two_gaussians_is_the_closed_form():
    m1, m2 = normal(1, 2), normal(1, 2, seed=1)
    a, b = normal(2, 2, seed=2), normal(2, 2, seed=3)
    s1, s2 = a @ a.T, b @ b.T
    # Of a 2 x 2 matrix with positive eigenvalues, tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)).
    trace = math.sqrt((s1 @ s2).trace() + 2 * math.sqrt(torch.det(s1 @ s2)))
    expected = (m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * trace
    result = frechet_distance(m1, s1[None], m2, s2[None])
    assert result.item() == pytest.approx(expected.item(), rel=1e-9)


class Features(nn.Identity):
    """A stand-in for the network of torchmetrics, whose images are features."""

    num_features = 20


@pytest.mark.parametrize("tasks", [1, 5])  # of which 1 has fewer images than features
def test_frechet_distance_is_that_of_torchmetrics(tasks):
    x, y = normal(tasks, 8, 20), 2 * normal(tasks, 7, 20, seed=1) + 1
    theirs = FrechetInceptionDistance(feature=Features()).set_dtype(torch.float64)
    theirs.update(x.flatten(0, 1), real=False)
    theirs.update(y.flatten(0, 1), real=True)
    ours = Frechet(x, y)(torch.ones(1, tasks)).item()
    assert ours == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_frechet_distance_of_tasks_drawn_again_is_that_of_their_images_again():
    x, y = normal(3, 4, 2), normal(3, 5, 2, seed=1) + 1
    again = [0, 0, 2]
    whole = Frechet(x[again], y[again])(torch.ones(1, 3))
    weights = torch.tensor([[1.0, 1, 1], [2, 0, 1]])
    assert Frechet(x, y)(weights)[1].item() == pytest.approx(whole.item(), rel=1e-9)


def test_frechet_distance_of_equal_images_is_zero_also_where_they_are_fewer_than_features():
    x = normal(2, 3, 20)
    assert Frechet(x, x)(torch.ones(1, 2)).item() == pytest.approx(0, abs=1e-5)


def test_the_floor_of_the_frechet_distance_is_that_of_two_samples_of_one_gaussian():
    # In one dimension: (m1 - m2)^2 has mean 2 s^2 / n, and (s1 - s2)^2 about s^2 / n.
    x = normal(20, 10, 1) * 3
    variance = x.flatten().var().item()
    assert frechet_floor(x, pairs=1000) == pytest.approx(3 * variance / 200, rel=0.15)
    assert frechet_floor(x) == frechet_floor(x)


def ball(points, i, k):
    """Return the distance from `points[i]` to the k-th nearest of the others."""
    return sorted(math.dist(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]


@given(st.integers(0, 2**32))
def test_neighbour_metrics_are_their_definitions(seed):
    x, y = normal(3, 2, 2, seed=seed), normal(3, 3, 2, seed=seed + 1) + 0.5
    fake, real = x.flatten(0, 1).tolist(), y.flatten(0, 1).tolist()

    def inside(points, centres, k):
        radii = [ball(centres, i, k) for i in range(len(centres))]
        return [[math.dist(p, c) <= r for c, r in zip(centres, radii, strict=True)] for p in points]

    fake_in_real, real_in_fake = inside(fake, real, 3), inside(real, fake, 3)
    assert precision(x, y).mean().item() == pytest.approx(mean(any(r) for r in fake_in_real))
    assert recall(x, y).mean().item() == pytest.approx(mean(any(r) for r in real_in_fake))
    balls = inside(fake, real, 5)
    assert density(x, y).mean().item() == pytest.approx(mean(sum(r) / 5 for r in balls))
    covered = [any(row[i] for row in balls) for i in range(len(real))]
    assert coverage(x, y).tolist() == pytest.approx([mean(covered[3 * t :][:3]) for t in range(3)])


def test_what_is_dropped_costs_recall_and_coverage_and_what_is_made_up_costs_precision():
    real = normal(4, 10, 3) + 100 * torch.arange(4.0).double()[:, None, None]
    dropped = real[:1].expand(4, 10, 3) + 0.01 * normal(4, 10, 3, seed=1)  # the first task only
    assert precision(dropped, real).mean() == 1
    assert recall(dropped, real).tolist()[1:] == [0, 0, 0]
    assert coverage(dropped, real).tolist()[1:] == [0, 0, 0]
    made_up = real.clone()
    made_up[3] += 1000
    assert precision(made_up, real).tolist() == [1, 1, 1, 0]
    assert density(made_up, real)[3] == 0
    assert (
        precision(real, real).mean()
        == recall(real, real).mean()
        == coverage(real, real).mean()
        == 1
    )


def test_density_and_coverage_of_one_distribution_are_as_derived():
    # 60 real images, 60 generated, k = 5: 1 - C(59, 5) / C(119, 5).
    sets = [normal(2, 6, 10, 4, seed=seed) for seed in range(100)]
    expected = 1 - math.comb(59, 5) / math.comb(119, 5)
    assert mean(coverage(x, y).mean().item() for x, y in sets) == pytest.approx(expected, abs=0.01)
    assert mean(density(x, y).mean().item() for x, y in sets) == pytest.approx(1, abs=0.03)


def test_a_neighbour_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="more than 3"):
        precision(torch.zeros(1, 2, 2), torch.zeros(1, 3, 2))


def test_diversity_is_the_mean_distance_of_the_pairs_of_a_task():
    x = normal(2, 4, 3)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    expected = [mean(math.dist(t[i], t[j]) for i, j in pairs) for t in x.tolist()]
    assert diversity(x).tolist() == pytest.approx(expected)
    assert diversity(x[:, :1].expand(2, 4, 3)).tolist() == [0, 0]


EVEN = torch.ones(1, 40)


def test_copies_are_memorised_and_real_images_are_as_often_as_calibrated():
    rates = []
    for seed in range(100):
        scales = torch.rand(40, 1, 1, generator=noise(seed)) * 9 + 1  # tasks differ in spread
        x, held_out, reference, support = scales * normal(4, 40, 5, 3, seed=seed)
        real = {"held_out": held_out, "reference": reference, "support": support}
        rates.append(Memorisation(x, **real)(EVEN).item())
        assert Memorisation(support, **real)(EVEN).item() == 1
    error = torch.tensor(rates).std().item() / 10
    assert mean(rates) == pytest.approx(LEVEL, abs=max(3 * error, 0.005))


def test_copies_are_memorised_also_where_real_images_are_equal():
    support = normal(40, 3, 2)
    real = {"held_out": support, "reference": support, "support": support}
    assert Memorisation(support, **real)(EVEN).item() == 1


def test_memorisation_of_tasks_drawn_again_has_their_threshold():
    x, held_out, reference, support = normal(4, 40, 5, 3)
    weights = torch.arange(40) % 3
    index = torch.arange(40).repeat_interleave(weights)
    drawn = Memorisation(
        x[index], held_out=held_out[index], reference=reference[index], support=support[index]
    )
    whole = Memorisation(x, held_out=held_out, reference=reference, support=support)
    expected = drawn(torch.ones(1, len(index))).item()
    assert whole(weights[None]).item() == pytest.approx(expected, rel=1e-12)


def test_the_nearest_support_image_is_found():
    support = normal(2, 3, 4)
    order = torch.tensor([[2, 0], [1, 1]])
    images = torch.stack([support[0, order[0]], support[1, order[1]]]) + 1e-6
    assert nearest_index(images, support).equal(order)


def test_own_task_share_counts_the_images_nearest_to_their_own_task():
    references = torch.eye(3)[:, None].expand(3, 4, 3)
    features = torch.eye(3)[:, None].repeat(1, 2, 1)
    assert own_task_share(features, references).tolist() == [1.0, 1.0, 1.0]
    features[0, 1] = torch.tensor([0.1, 0.9, 0.0])  # one image of the first task looks like another
    assert own_task_share(features, references).tolist() == [0.5, 1.0, 1.0]


def test_own_task_share_of_noise_is_chance():
    features, references = torch.randn(2, 50, 40, 16, generator=noise())
    assert own_task_share(features, references).mean().item() == pytest.approx(1 / 50, abs=0.01)


@pytest.mark.parametrize("dimensions", [3, 30])
def test_the_classifier_is_ridge_regression(dimensions):
    train, test = normal(4, 5, dimensions), normal(4, 6, dimensions, seed=1)
    x = train.flatten(0, 1).numpy()
    centred = x - x.mean(axis=0)
    penalty = 0.1 * np.linalg.eigvalsh(centred @ centred.T).sum() / min(centred.shape)
    # Ridge regression is least squares with rows that pull the weights to 0.
    rows = np.vstack([centred, math.sqrt(penalty) * np.eye(dimensions)])
    targets = np.vstack([np.repeat(np.eye(4), 5, axis=0) - 0.25, np.zeros((dimensions, 4))])
    weights = np.linalg.lstsq(rows, targets, rcond=None)[0]
    guesses = ((test.numpy() - x.mean(axis=0)) @ weights).argmax(axis=2)
    expected = (guesses == np.arange(4)[:, None]).mean(axis=1)
    assert accuracy(test, train).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("dimensions", [4, 400])
def test_equal_samples_of_all_tasks_teach_nothing(dimensions):
    """An unadapted model may sample the same image for all tasks."""
    same = torch.full((5, 8, dimensions), 0.1)
    real = normal(5, 8, dimensions)
    for drawn in (same, torch.zeros_like(same)):
        assert accuracy(real, drawn).mean() == pytest.approx(1 / 5)


def test_psnr_is_the_error_in_decibel():
    a, b = torch.zeros(2, 1, 4, 4), torch.tensor([0.2, 0.02]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert psnr(a, b).tolist() == pytest.approx([20, 40])
    assert psnr(a, a).tolist() == [math.inf, math.inf]


def test_ssim_is_its_formula_in_every_window():
    a, b = normal(1, 1, 8, 8).clamp(-1, 1), normal(1, 1, 8, 8, seed=1).clamp(-1, 1)
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2, values = (0.01 * 2) ** 2, (0.03 * 2) ** 2, []
    mirrored = [np.pad(z[0, 0].numpy(), 5, mode="reflect") for z in (a, b)]
    for i in range(8):
        for j in range(8):
            p, q = (z[i : i + 11, j : j + 11] for z in mirrored)
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            part = (2 * mp * mq + c1) * (2 * cov + c2)
            values.append(part / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    assert ssim(a, b).item() == pytest.approx(mean(values), rel=1e-6)
    assert ssim(a, a).item() == pytest.approx(1)


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim_are_those_of_torchmetrics(channels):
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    a = normal(3, channels, 12, 12).clamp(-1, 1)
    b = (a + 0.1 * normal(3, channels, 12, 12, seed=1)).clamp(-1, 1)
    theirs = [
        peak_signal_noise_ratio(x, y, data_range=2.0).item() for x, y in zip(a, b, strict=True)
    ]
    assert psnr(a, b).tolist() == pytest.approx(theirs)
    theirs = structural_similarity_index_measure(a, b, data_range=2.0, reduction="none")
    torch.testing.assert_close(ssim(a, b), torch.as_tensor(theirs).reshape(3))
