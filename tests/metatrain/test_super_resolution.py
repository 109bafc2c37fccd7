"""Super-resolution: network, objective, training by every learner, and the measure."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from local_training import train
from photographs import photograph, photos, sr_config  # noqa: F401

from metatrain.base.errors import UserError
from metatrain.config import load_config, parse_config
from metatrain.data.degradations.bicubic import bicubic_weights
from metatrain.data.degradations.degradation import LOW
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.generators.networks.residual import enlarged_bicubic
from metatrain.learning.learners import LEARNERS
from metatrain.metrics.super_resolution import psnr_y, ssim_y
from metatrain.model.build import build_generator, build_theta
from metatrain.model.file import parse_model
from metatrain.model.model import Model
from metatrain.plan.trace import trace
from metatrain.training.run_data import training_sampler
from tuning.config import load_sweep

ROOT = Path(__file__).parents[2]


def first_episode(config):
    source = open_tasks(config.data)
    return next(load_episodes(source, training_sampler(source, config), start=0))[0]


SPAN = ("generator.name=span", "generator.blocks=2")
EDSR = ("generator.name=edsr", "generator.blocks=2")


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["residual", "edsr", "span"])
def test_a_new_network_is_the_bicubic_enlargement(photos, tmp_path, name, scale):  # noqa: F811
    fixed = [] if name == "residual" else [f"generator.scale={scale}"]
    parts = [f"generator.name={name}", *fixed]
    size = (f"data.tasks.scale={scale}", "data.image_size=24")
    config = sr_config(photos, tmp_path, *size, *parts)
    network, low = build_generator(config).network, torch.rand(2, 3, 7, 5)
    enlarged = network.enlarge(low, scale)
    rows, columns = (torch.tensor(bicubic_weights(n, scale)).float() for n in (7, 5))
    expected = torch.einsum("ih,bchw,jw->bcij", rows, low, columns)
    assert torch.allclose(enlarged, expected, atol=1e-5)


def test_the_loss_is_the_mean_absolute_difference(photos, tmp_path):  # noqa: F811
    config = sr_config(photos, tmp_path)
    episode, generator = first_episode(config), build_generator(config)
    [loss] = generator.losses(episode.query_batch())
    difference = enlarged_bicubic(episode.query.given[LOW], 2) - episode.query.target
    assert torch.isclose(loss, difference.abs().mean(), rtol=1e-4)


# CAVIA's context conditions an embedding, which this network has not.
@pytest.mark.parametrize("learner", [name for name in LEARNERS.built_in if name != "cavia"])
def test_every_learner_trains_it(photos, tmp_path, learner):  # noqa: F811
    config = sr_config(photos, tmp_path, f"learner.name={learner}", "data.channels=1")
    start = build_theta(config).copy()
    state = train(config)
    assert any(not torch.equal(state.parameters[n], p) for n, p in start.items())


@pytest.mark.parametrize("parts", [EDSR, SPAN], ids=["edsr", "span"])
@pytest.mark.parametrize("learner", ["maml++", "reptile", "imaml"])
def test_learners_of_all_orders_train_what_shuffles(
    photos,  # noqa: F811
    tmp_path,
    learner,
    parts,
):
    """Gates and the shuffle have second derivatives, and no weight is left out."""
    config = sr_config(photos, tmp_path, f"learner.name={learner}", *parts)
    start = build_theta(config).copy()
    state = train(config)
    assert all(not torch.equal(state.parameters[n], p) for n, p in start.items())


@pytest.mark.parametrize(
    "parts", [["generator.name=residual"], EDSR, SPAN], ids=["residual", "edsr", "span"]
)
def test_a_pixel_depends_on_no_low_pixel_beyond_the_reach(photos, tmp_path, parts):  # noqa: F811
    network = build_generator(sr_config(photos, tmp_path, *parts)).network
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    network, low = network.double(), torch.rand(1, 3, 5, 45, dtype=torch.float64)
    low.requires_grad_()
    pixel = network.enlarge(low, 2)[0, :, 4, 44].sum()
    [gradient] = torch.autograd.grad(pixel, low)
    columns = gradient.abs().sum((0, 1, 2)).nonzero()[:, 0] - 22
    assert 0 < columns.abs().max() <= network.reach


@pytest.mark.parametrize("parts", [EDSR, SPAN], ids=["edsr", "span"])
def test_a_network_of_another_scale_is_refused(photos, tmp_path, parts):  # noqa: F811
    with pytest.raises(UserError, match=r"generator.scale=3 cannot enlarge by 2; give"):
        train(sr_config(photos, tmp_path, *parts, "generator.scale=3"))


@pytest.mark.parametrize("scale", [3, 4])
@pytest.mark.parametrize("name", ["residual", "edsr", "span"])
def test_a_model_of_each_scale_is_trained_adapts_and_enlarges(photos, tmp_path, name, scale):  # noqa: F811
    fixed = [] if name == "residual" else [f"generator.scale={scale}", "generator.blocks=2"]
    size = (f"data.tasks.scale={scale}", "data.image_size=24")
    config = sr_config(photos, tmp_path, *size, f"generator.name={name}", *fixed)
    model = Model(config, train(config).parameters, step=config.meta.steps)
    photo = photograph(3, 40, 52)
    enlarged = [model.enlarge(photo, steps=steps).pixels for steps in (0, 2)]
    assert [image.shape for image in enlarged] == [(40 * scale, 52 * scale, 3)] * 2
    assert (enlarged[0] != enlarged[1]).any()


@pytest.mark.long
def test_training_and_adapting_beat_the_bicubic_enlargement(photos, tmp_path):  # noqa: F811
    """Joint training on one blur; the loss is compared with that of the first step."""
    config = sr_config(
        photos,
        tmp_path,
        *("learner.name=joint", "meta.steps=100", "meta.batch=6", "meta.lr=0.003"),
        *("data.tasks.sigma=[1.2,1.2]", "data.queries=4", "generator.width=12", "meta.ema=0.9"),
    )
    state = train(config)
    model, episode = Model(config, state.average, state.step), first_episode(config)

    def loss(generator):
        with torch.no_grad():
            return generator.losses(episode.support_batch())[0].item()

    bicubic, trained = loss(build_generator(config)), loss(model.generator())
    adapted = loss(model.adapt(episode.support, steps=20, lr=0.05).generator())
    assert trained < 0.9 * bicubic
    assert adapted < trained


def test_a_sample_is_the_enlarged_low_image(photos, tmp_path):  # noqa: F811
    config = sr_config(photos, tmp_path, "data.shots=2")
    theta = build_theta(config)
    model, support = Model(config, theta.copy(), 0), first_episode(config).support
    adapted = model.adapt(support)
    samples = adapted.sample(3)
    network = adapted.generator().network
    with torch.no_grad():
        expected = network.enlarge(support.given[LOW], 2).clamp(-1, 1)
    assert torch.allclose(samples, expected[[0, 1, 0]], atol=1e-6)
    loaded = parse_model(adapted.to_bytes(), "m.safetensors", trust=True)
    assert torch.allclose(loaded.sample(3), samples, atol=1e-6)


def test_a_plan_knows_the_low_images(photos, tmp_path):  # noqa: F811
    config = sr_config(photos, tmp_path, "learner.name=maml")
    assert trace(config, episodes=1).flops > 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("generator.name=unet", "generator.name=residual or edsr"),
        ("objective.name=flow", "generator that predicts a velocity"),
    ],
)
def test_parts_that_do_not_fit_are_refused(photos, tmp_path, override, words):  # noqa: F811
    config = sr_config(photos, tmp_path)
    with pytest.raises(UserError, match=words):
        train(replaced(config, override))


def replaced(config, override):
    """The configuration with another part, without the settings of the one before."""
    section, name = override.split(".name=")
    return parse_config(config.model_dump(mode="json") | {section: {"name": name}})


def test_adapting_to_images_without_low_ones_is_refused(photos, tmp_path):  # noqa: F811
    config = sr_config(photos, tmp_path)
    with pytest.raises(UserError, match="condition 'low'"):
        Model(config, build_theta(config).copy(), 1).adapt(photograph(0, 16, 16))


def test_the_shipped_configurations_are_of_super_resolution():
    config = load_config(str(ROOT / "configs/super-resolution.yaml"))
    sweep = load_sweep(str(ROOT / "configs/sweep-sr.yaml"))
    assert config.objective.name == "super_resolution"
    assert config.data.condition_shapes == {LOW: (1, 32, 32)}
    assert sweep.settings.metric == "loss"


def test_cavia_says_that_it_has_nothing_to_move(photos, tmp_path):  # noqa: F811
    config = sr_config(photos, tmp_path, "learner.name=cavia")
    with pytest.raises(UserError, match="context"):
        build_theta(config)


def reference_ssim(a, b):
    """SSIM by its definition, one window after the other, in float64."""
    places = np.arange(11) - 5
    window = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / 4.5)
    window /= window.sum()
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            vxy = (window * (x - mx) * (y - my)).sum()
            c1, c2 = 6.5025, 58.5225
            top = (2 * mx * my + c1) * (2 * vxy + c2)
            values.append(top / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return np.mean(values)


def reference_luma(image):
    """ITU-R BT.601, digital: Y = 16 + 219 (0.299 R + 0.587 G + 0.114 B) / 255."""
    r, g, b = image.astype(np.float64).transpose(2, 0, 1)
    return np.round(16 + 219 * (0.299 * r + 0.587 * g + 0.114 * b) / 255)


@pytest.mark.parametrize("shave", [0, 2, 4])
def test_psnr_and_ssim_are_those_of_an_independent_reference(shave):
    truth = photograph(0, 40, 44)
    noise = np.random.default_rng(0).normal(0, 9, truth.shape)
    image = (truth + noise).clip(0, 255).astype(np.uint8)
    rows, columns = slice(shave, 40 - shave), slice(shave, 44 - shave)
    a, b = (reference_luma(x)[rows, columns] for x in (image, truth))
    expected = 10 * math.log10(255**2 / ((a - b) ** 2).mean())
    assert math.isclose(psnr_y(image, truth, shave), expected, rel_tol=1e-12)
    assert math.isclose(ssim_y(image, truth, shave), reference_ssim(a, b), rel_tol=1e-9)


def test_an_image_is_like_itself():
    truth = photograph(1, 30, 30)
    assert psnr_y(truth, truth, 2) == math.inf
    assert math.isclose(ssim_y(truth, truth, 2), 1)
