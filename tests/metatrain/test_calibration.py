"""Calibration: warnings have their nominal rate, and intervals their nominal coverage."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional import spearman_corrcoef

from metatrain.base.errors import MissingStepError, UserError
from metatrain.config import load_config
from metatrain.data.examples import Examples
from metatrain.evaluation.scores.expectation_quality import expectation_quality, rank_correlation
from metatrain.evaluation.scores.statistics import resamples
from metatrain.generators.objectives.flow import random_stream
from metatrain.model.build import build_theta
from metatrain.model.calibration import UNFAMILIAR, Calibration
from metatrain.model.expectation import expectation, warning
from metatrain.model.file import parse_model
from metatrain.model.model import Model
from metatrain.model.support import as_support
from metatrain.model.surprise import NOISES, TIMES, surprise

TASKS, SIZE, SHOTS = 39, 16, 3


def calibration(surprise, own_task=None, model="m", shots=SHOTS, learned=None) -> Calibration:
    own_task, learned = (
        torch.zeros(len(surprise)) if given is None else given for given in (own_task, learned)
    )
    return Calibration(model, "stripes", shots, surprise, learned, own_task)


def on(x, y) -> Calibration:
    """Return a calibration with regressors `x`, whose last column is the decrease of surprise."""
    return calibration(x[:, :-1], y, learned=x[:, -1])


def expected(calibration, x):
    return calibration.expected(x[:-1], x[-1])


def skewed(count: int, seed: int) -> torch.Tensor:
    """Sample vectors [count, 3] of a skewed distribution, on very different scales."""
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return torch.stack([x[:, 0].exp(), x[:, 0] + 0.01 * x[:, 1], 100 * x[:, 2].abs()], dim=1)


def test_a_task_like_the_others_is_warned_of_as_rarely_as_promised():
    drawn = [skewed(TASKS + 1, seed) for seed in range(600)]
    values = [calibration(x[:-1]).familiarity(x[-1]) for x in drawn]
    for level in (0.05, 0.2, 0.5):
        share = np.mean([value <= level for value in values])
        assert abs(share - level) < 4 * (level / 600) ** 0.5
    assert min(values) >= 1 / (TASKS + 1)


def test_familiarity_is_the_rank_of_the_distance_among_all():
    x = skewed(TASKS + 1, 7).double().numpy()
    mean = x.mean(axis=0)
    covariance = np.cov(x.T, bias=True)
    covariance = 0.9 * covariance + 0.1 * np.diag(np.diag(covariance))
    distances = [(row - mean) @ np.linalg.solve(covariance, row - mean) for row in x]
    expected = np.mean([d >= distances[-1] for d in distances])
    everyone = torch.from_numpy(x)
    assert calibration(everyone[:-1]).familiarity(everyone[-1]) == pytest.approx(expected)


def test_too_little_surprise_is_as_unfamiliar_as_too_much():
    normal = torch.randn(TASKS, 3, generator=torch.Generator().manual_seed(0))
    result = calibration(normal)
    least = 1 / (TASKS + 1)
    assert result.familiarity(torch.full((3,), 9.0)) == pytest.approx(least)
    assert result.familiarity(torch.full((3,), -9.0)) == pytest.approx(least)
    assert result.familiarity(normal.mean(dim=0)) == 1
    assert calibration(normal[:9]).familiarity(torch.full((3,), 9.0)) > UNFAMILIAR


def linear(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=generator)
    return x, 0.5 + 0.1 * x[:, 0] + 0.05 * torch.randn(count, generator=generator)


def test_the_interval_holds_what_it_says_and_is_as_narrow_as_the_noise():
    held, widths = [], []
    for seed in range(200):
        x, y = linear(TASKS + 1, seed)
        result = expected(on(x[:-1], y[:-1]), x[-1])
        held.append(result.low <= y[-1] <= result.high)
        widths.append(result.high - result.low)
    assert 0.84 < np.mean(held) < 0.97
    assert 0.15 < np.mean(widths) < 0.25  # 2 x 1.645 x 0.05 of a known line


def test_the_value_is_that_of_ridge_regression():
    x, y = (part.double() for part in linear(TASKS, 3))
    a = (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    rows = torch.cat([a, (0.1 * TASKS) ** 0.5 * torch.eye(3)])
    slope = torch.linalg.lstsq(rows, torch.cat([y - y.mean(), torch.zeros(3)])[:, None])[0][:, 0]
    at = torch.ones(3).double()
    here = y.mean() + ((at - x.mean(dim=0)) / x.std(dim=0, correction=0)) @ slope
    assert expected(on(x, y), at).value == pytest.approx(here.item())


def test_of_few_tasks_every_share_may_be_expected():
    x, y = linear(8, 0)
    result = expected(on(x, y), x[0])
    assert (result.low, result.high) == (0, 1)
    assert 0 <= result.value <= 1


def test_what_was_foreseen_is_compared_with_what_came():
    x, y = linear(TASKS + 20, 1)
    known, rest = on(x[:TASKS], y[:TASKS]), x[None, TASKS:]
    result = expectation_quality(
        known, surprise=rest[..., :-1], learned=rest[..., -1], measured=y[TASKS:]
    )
    assert result.correlation.value > 0.7
    assert result.correlation.low < result.correlation.value < result.correlation.high
    assert result.error.value < 0.1
    assert result.held.value > 0.7
    assert len(result.expected) == 20
    shuffled = expectation_quality(
        known, surprise=9 + rest[..., :-1], learned=9 + rest[..., -1], measured=y[TASKS:].flip(0)
    )
    assert abs(shuffled.correlation.value) < 0.5
    assert shuffled.warned.value == 1


def test_the_rank_correlation_is_spearmans_also_of_resampled_tasks():
    x, y = linear(TASKS, 2)
    y = (8 * y).round() / 8  # shares have ties
    weights = resamples(TASKS, count=20)
    result = rank_correlation(x[:, 0], y)(weights)
    for row, value in zip(weights, result, strict=True):
        i = torch.repeat_interleave(row.long())
        torch.testing.assert_close(
            value, spearman_corrcoef(x[i, 0], y[i]).double(), rtol=1e-4, atol=1e-4
        )
    assert rank_correlation(torch.zeros(TASKS), y)(weights).eq(0).all()


@pytest.fixture
def model() -> Model:
    config = load_config(None, ["data.image_size=16", "data.shots=3", "generator.width=8"])
    return Model(config, {n: p.detach() for n, p in build_theta(config).named().items()}, 7)


def test_surprise_is_the_objective_at_fixed_times_with_each_image_given_the_others(model):
    torch.manual_seed(0)
    generator = model.generator()
    torch.nn.init.normal_(generator.network.out.weight)
    support = torch.rand(SHOTS, 1, SIZE, SIZE) * 2 - 1
    support[0] = 1
    result = surprise(generator, Examples(support))
    images = support.repeat(NOISES, 1, 1, 1)
    noise = torch.randn(images.shape, generator=random_stream(0))
    visible = torch.tensor([[i % SHOTS != j for j in range(SHOTS)] for i in range(len(images))])
    assert len(result) == len(TIMES) + 1
    for time, value in zip(TIMES, result, strict=False):
        loss = generator(images, noise, torch.full((len(images),), time), support, visible)
        torch.testing.assert_close(value.exp(), loss.detach())
    assert result[-1] > 0
    assert surprise(generator, Examples(support[:1].expand(SHOTS, -1, -1, -1)))[-1] < result[-1]
    assert surprise(generator, Examples(support[:1]))[-1] == 0


def test_a_calibration_travels_in_the_file_and_leaves_the_model_what_it_was(model):
    x, y = linear(TASKS, 0)
    given = Model(model.config, model.parameters, 7, calibration=calibration(x, y, model.sha256))
    loaded = parse_model(given.to_bytes(), "file")
    assert loaded.sha256 == given.sha256 == model.sha256
    assert loaded.calibration is not None
    assert loaded.calibration.parts()[0] == given.calibration.parts()[0]
    assert loaded.calibration.surprise.equal(x)
    assert loaded.calibration.learned.equal(given.calibration.learned)
    assert loaded.calibration.own_task.equal(y)
    support = Examples(torch.zeros(1, 1, SIZE, SIZE))
    assert loaded.adapted(loaded.parameters, support).calibration is None
    other = {n: p + 1 for n, p in model.parameters.items()}
    assert Model(model.config, other, 7).sha256 != model.sha256
    content = given.to_bytes().replace(b"calibration/own_task", b"calibration/own_tusk")
    with pytest.raises(UserError, match="file is not a metatrain model, or is damaged"):
        parse_model(content, "file")


@pytest.fixture
def stripes(images, tmp_path):
    """A function that writes and reads a folder with images of a task, or of noise."""

    def folder(name, shots=SHOTS):
        (tmp_path / name).mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (shots, SIZE, SIZE), dtype=np.uint8)
        for i in range(shots):
            file = f"{images}/{name}/{i:02d}.png"
            picture = Image.fromarray(noise[i]) if name == "noise" else Image.open(file)
            picture.save(tmp_path / name / f"{i}.png")
        return as_support(tmp_path / name, load_config(None, ["data.image_size=16"]).data)

    return folder


def test_a_person_is_told_before_anything_is_drawn(model, stripes):
    generator = model.generator()
    seen = torch.stack([surprise(generator, stripes(f"task-{t:02d}")) for t in range(1, 20)])
    # As many as it takes to warn: each a little moved.
    moved = [seen + 0.01 * torch.randn(seen.shape, generator=random_stream(i)) for i in range(3)]
    surprises = torch.cat(moved)
    own_task = torch.linspace(0.6, 0.8, len(surprises))
    known = Model(
        model.config,
        model.parameters,
        7,
        calibration=calibration(surprises, own_task, model.sha256),
    )
    support = stripes("task-00", shots=5)
    assert warning(known, support) is None
    told = expectation(known, support, known)
    assert told.startswith("Expect ")
    assert "among 57 unseen tasks of stripes" in told
    unlike = "Warning: these images are unlike the training tasks"
    assert (warning(known, stripes("noise")) or "").startswith(unlike)
    few, enough = (Examples(torch.zeros(count, 1, SIZE, SIZE)) for count in (2, 3))
    with pytest.raises(UserError, match="calibrated with 3"):
        expectation(known, few, known)
    with pytest.raises(MissingStepError, match="calibrate it first"):
        expectation(model, enough, model)
    trained_on = Model(model.config, known.parameters, 8, calibration=known.calibration)
    with pytest.raises(MissingStepError, match="calibrate it first"):
        expectation(trained_on, enough, known)
    assert warning(known, few) is warning(model, enough) is warning(trained_on, enough) is None


def test_what_was_learned_is_how_far_the_surprise_fell(model, stripes):
    support = stripes("task-00")
    nearer = model.adapted(model.adapt(support).parameters, support)
    fell = (surprise(model.generator(), support) - surprise(nearer.generator(), support)).mean()
    learned = torch.linspace(0, 1, TASKS)
    flat = torch.zeros(TASKS, len(TIMES) + 1)
    known = replace(model, calibration=calibration(flat, learned, model.sha256, learned=learned))
    share = known.calibration.expected(flat[0], fell).value
    assert 0 < share < 1
    assert f"Expect {share:.0%} of the samples to be" in expectation(known, support, nearer)
