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
from metatrain.metrics.retrieval import nearer_tasks, own_task_share, own_task_share_among
from metatrain.model.build import build_theta
from metatrain.model.calibration import UNFAMILIAR, Calibration
from metatrain.model.expectation import expectation, warning
from metatrain.model.file import parse_model
from metatrain.model.forecast import Forecast
from metatrain.model.model import Model
from metatrain.model.support import as_support
from metatrain.model.surprise import NOISES, TIMES, surprise

TASKS, SIZE, SHOTS = 39, 16, 3


def calibration(surprise, nearer=None, model="m", shots=SHOTS, learned=None) -> Calibration:
    nearer = torch.zeros(1, len(surprise), 1, dtype=torch.int32) if nearer is None else nearer
    learned = torch.zeros(len(surprise)) if learned is None else learned
    return Calibration(model, "stripes", shots, surprise, learned, nearer)


def on(x, y) -> Forecast:
    """Return a forecast with regressors `x`, whose last column is the decrease of surprise."""
    return Forecast(x[:, :-1], x[:, -1], y)


def expected(forecast, x):
    return forecast.expected(x[:-1], x[-1])


def counts(shares, images=20) -> torch.Tensor:
    """Return counts of nearer tasks [1, T, images] with these own-task shares, rounded."""
    own = (shares.clamp(0, 1) * images).round()
    return (torch.arange(images) >= own[:, None]).int()[None] * (len(shares) - 1)


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
    seen, rest = x[:TASKS], x[None, TASKS:]
    known = calibration(seen[:, :-1], counts(y[:TASKS]), learned=seen[:, -1])
    # As many tasks on either side, or images would be told from fewer.
    rest = torch.cat([rest, rest[:, :19]], dim=1)
    came = counts(torch.cat([y[TASKS:], y[TASKS : TASKS + 19]]))
    result = expectation_quality(known, surprise=rest[..., :-1], learned=rest[..., -1], nearer=came)
    assert result.correlation.value > 0.7
    assert result.correlation.low < result.correlation.value < result.correlation.high
    assert result.error.value < 0.1
    assert result.held.value > 0.7
    assert len(result.expected) == len(result.measured) == 39
    assert result.extent == (39, 1, 20)
    shuffled = expectation_quality(
        known, surprise=9 + rest[..., :-1], learned=9 + rest[..., -1], nearer=came.flip(1)
    )
    assert abs(shuffled.correlation.value) < 0.5
    assert shuffled.warned.value == 1


def simulated(tasks, seed, seeds=3, images=4):
    """Simulate tasks of varying difficulty, of which surprise tells a part."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    centres, ease = noise(tasks, 12), 0.5 + torch.rand(tasks, generator=generator)
    references = centres[:, None] + 0.5 * noise(tasks, 8, 12)
    skill = ease + 0.3 * noise(seeds, tasks)
    samples = skill[..., None, None] * centres[:, None] + noise(seeds, tasks, images, 12)
    nearer = torch.stack([nearer_tasks(x, references) for x in samples])
    surprise = torch.stack([skill + 0.3 * noise(seeds, tasks), noise(seeds, tasks)], dim=-1)
    return {"surprise": surprise, "learned": noise(seeds, tasks), "nearer": nearer}


@pytest.mark.parametrize(("known", "asked"), [(63, 108), (108, 63), (80, 80)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_hold_on_lists_of_other_sizes(known, asked, seeds):
    held = []
    for trial in range(12):
        given, rest = simulated(known, 2 * trial), simulated(asked, 2 * trial + 1)
        model = calibration(given["surprise"][0], given["nearer"], learned=given["learned"][0])
        quality = expectation_quality(model, **{k: v[:seeds] for k, v in rest.items()})
        assert quality.extent == (min(known, asked), seeds, 4)
        held.append(quality.held.value)
    assert 0.85 <= np.mean(held) <= 0.95


def test_a_share_among_fewer_tasks_is_that_of_random_ones():
    given = simulated(40, 3, seeds=1)["nearer"][0]
    shares = own_task_share_among(given, 40)
    assert shares.equal((given == 0).double().mean(dim=-1))
    assert own_task_share_among(given, 1).eq(1).all()
    features, references = (torch.randn(60, n, 6, generator=random_stream(n)) for n in (50, 1))
    features = features + references
    chance = own_task_share_among(nearer_tasks(features, references), 20).mean()
    chosen = [torch.randperm(60, generator=random_stream(i))[:20] for i in range(40)]
    direct = [own_task_share(features[c], references[c]).mean() for c in chosen]
    assert abs(chance - torch.stack(direct).mean()) < 0.02


def test_what_cannot_be_foreseen_is_said(model, stripes):
    support = stripes("task-00")
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(30, len(TIMES) + 1, generator=generator)
    shares = (torch.rand(30, generator=generator) > 0.5).float()
    known = replace(model, calibration=calibration(noise, counts(shares), model.sha256))
    assert not known.calibration.forecast().foresees
    assert "cannot be foreseen" in expectation(known, support, known)
    x, y = linear(TASKS, 1)
    assert on(x, y).foresees


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
    known = calibration(x, counts(y), model.sha256)
    given = Model(model.config, model.parameters, 7, calibration=known)
    loaded = parse_model(given.to_bytes(), "file")
    assert loaded.sha256 == given.sha256 == model.sha256
    assert loaded.calibration is not None
    assert loaded.calibration.parts()[0] == given.calibration.parts()[0]
    assert loaded.calibration.surprise.equal(x)
    assert loaded.calibration.learned.equal(given.calibration.learned)
    assert loaded.calibration.nearer.equal(counts(y))
    support = Examples(torch.zeros(1, 1, SIZE, SIZE))
    assert loaded.adapted(loaded.parameters, support).calibration is None
    other = {n: p + 1 for n, p in model.parameters.items()}
    assert Model(model.config, other, 7).sha256 != model.sha256
    content = given.to_bytes().replace(b"calibration/nearer", b"calibration/dearer")
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
    ranks = surprises[:, 0].argsort().argsort()
    nearer = counts(torch.linspace(0.2, 0.8, len(surprises))[ranks])
    known = Model(
        model.config,
        model.parameters,
        7,
        calibration=calibration(surprises, nearer, model.sha256),
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
    learned = torch.linspace(0, 1, 21)
    flat = torch.zeros(21, len(TIMES) + 1)
    shares = calibration(flat, counts(learned), model.sha256, learned=learned)
    known = replace(model, calibration=shares)
    share = known.calibration.forecast().expected(flat[0], fell).value
    assert 0 < share < 1
    assert f"Expect {share:.0%} of the samples to be" in expectation(known, support, nearer)
