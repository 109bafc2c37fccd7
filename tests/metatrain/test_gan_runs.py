"""A GAN through the ordinary trainer, adaptation, evaluation, files and commands."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_models import metatrain as command

import metatrain
from metatrain.combine.learned import mixture
from metatrain.config import load_config
from metatrain.data.loader import open_tasks
from metatrain.data.pictures import pil_images
from metatrain.metrics.diversity import COLLAPSED, collapse
from metatrain.model.build import build_theta
from metatrain.model.collapse import collapse_of
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.plan.trace import trace

GAN = (
    *("data.image_size=16", "data.shots=4", "data.queries=4"),
    *("generator.name=resnet_gan", "generator.width=16", "generator.patch=2"),
    "objective.name=adversarial",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run on squares in corners, and its model."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("gan")
    noise = np.random.default_rng(0)
    for number in range(10):
        (folder / "squares" / f"task{number}").mkdir(parents=True)
        for i in range(20):
            image = noise.integers(0, 60, (16, 16), dtype=np.uint8)
            corner = np.s_[8 * (number % 2) :, 8 * (number // 2 % 2) :]
            image[corner][:8, :8] = noise.integers(200, 255)
            Image.fromarray(image).save(folder / "squares" / f"task{number}" / f"{i}.png")
    metatrain.pack(folder / "squares", folder / "data")
    overrides = (
        *("learner.name=reptile", "meta.steps=4", "meta.batch=2", "meta.warmup=0"),
        *("inner.steps=4", "adapt.steps=64", "adapt.lr=0.002", "meta.ema=0.5"),
        *("objective.augment=[]", "objective.penalty=0.3"),
        *(f"data.path={folder}/data", f"run.dir={folder}", "run.name=gan"),
    )
    return f"{folder}/gan", metatrain.train(load_config(None, [*GAN, *overrides]))


def task(model, number=0):
    source = open_tasks(model.config.data)
    return source.read(source.sampler("train", seed=3, meta_batch=1).plan(number, 0))


def test_players_learn_the_images_of_a_task(run):
    _, model = run
    start, episode = Model(model.config, build_theta(model.config).copy(), 0), task(model)
    real = episode.query.target.mean(dim=0)
    before, after = (
        (sampled(m, episode.support).mean(dim=0) - real).square().mean()
        for m in (start, start.adapt(episode.support))
    )
    assert after < 0.5 * before


def test_an_adapted_file_has_no_discriminator_and_samples_the_same(run, tmp_path):
    folder, model = run
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, image in enumerate(pil_images(task(model).support.target)):
        image.save(photos / f"{i}.png")
    for flags in ((), ("--discriminator",), ("--whole",)):
        out = tmp_path / "-".join(("out", *flags))
        assert command("adapt", folder, photos, "--steps", 2, "--out", out, *flags) == 0
        names = load_file(out / "adapted.safetensors")
        kept = any(name.startswith("parameters/network.discriminator.") for name in names)
        assert kept == (flags == ("--discriminator",))
        adapted = load_model(f"{out}/adapted.safetensors", trust=True)
        expected = model.adapt(str(photos), steps=2).sample(3)
        assert torch.equal(adapted.sample(3), expected)
        assert not torch.equal(adapted.sample(3, truncation=0.3), expected)


def test_a_model_that_has_not_adapted_needs_its_discriminator(run, tmp_path):
    _, model = run
    model.to_sample_only().save(tmp_path / "model.safetensors")
    with pytest.raises(metatrain.UserError, match="not those of its own configuration"):
        load_model(f"{tmp_path}/model.safetensors", trust=True)


def test_the_discriminator_adapts_too(run):
    _, model = run
    adapted = model.adapt(task(model).support, steps=1)
    moved = {
        n.split(".")[1] for n, p in model.parameters.items() if (adapted.parameters[n] != p).any()
    }
    assert moved == {"generator", "discriminator"}


def test_collapse_is_said(run):
    _, model = run
    adapted = model.adapt(task(model).support, steps=1)
    # What reaches the last layer is ignored, so that all samples are alike.
    alike = {
        n: 0 * p if n == "network.generator.out.weight" else p
        for n, p in adapted.parameters.items()
    }
    line = collapse_of(Model(model.config, alike, 0, support=adapted.support))
    assert line.startswith("Warning: the samples of a task have collapsed")
    assert collapse(0.49, 1.0)
    assert not collapse(COLLAPSED, 1.0)


@pytest.mark.long
def test_an_evaluation_has_all_scores_of_a_gan(run, tmp_path, capsys):
    folder, _ = run
    arguments = (
        "--split",
        "train",
        "--tasks",
        3,
        "--seeds",
        1,
        "--shots",
        3,
        "--out",
        tmp_path / "e",
    )
    assert command("evaluate", folder, *arguments) == 0
    assert "diversity" in capsys.readouterr().out


def test_a_mixture_of_gans_starts_as_the_first_and_moves_along_the_others(run):
    _, model = run
    noise = torch.Generator().manual_seed(1)
    other = {
        n: p + 0.1 * p.std() * torch.randn(p.shape, generator=noise) if p.numel() > 1 else p
        for n, p in model.parameters.items()
    }
    mixed = mixture({"a": model, "b": Model(model.config, other, 1)})
    support = task(model).support
    assert torch.equal(sampled(mixed, support), sampled(model, support))
    alphas = [name for name in mixed.parameters if name.endswith("alpha")]
    assert len(alphas) == 2
    at_other = mixed.parameters | {name: torch.ones(1) for name in alphas}
    torch.testing.assert_close(
        sampled(Model(mixed.config, at_other, 1), support),
        sampled(Model(model.config, other, 1), support),
        rtol=0,
        atol=1e-4,
    )
    adapted = mixed.adapt(support, steps=2)
    moved = [n for n, p in mixed.parameters.items() if not torch.equal(adapted.parameters[n], p)]
    assert moved == alphas


def sampled(model, support):
    return model.generator().sample(support, 16, seed=0)


@pytest.mark.parametrize(
    ("name", "network", "objective"),
    [
        ("mixture", "resnet_gan", "adversarial"),
        ("ensemble", "resnet_gan", "adversarial"),
        ("gan_mixture", "unet", "flow"),
    ],
)
def test_what_cannot_be_mixed_is_refused(name, network, objective):
    overrides = (f"generator.of.name={network}", f"objective.name={objective}")
    config = load_config(None, [f"generator.name={name}", *overrides])
    with pytest.raises(metatrain.UserError, match=rf"generator\.name={name}"):
        build_theta(config)


@pytest.mark.parametrize(
    ("network", "learner"),
    [("resnet_gan", "joint"), ("resnet_gan", "maml"), ("fastgan", "reptile")],
)
def test_games_are_planned(network, learner):
    config = load_config(
        None,
        [
            *("data.image_size=8", "data.shots=2", f"generator.name={network}"),
            *("generator.width=8", "objective.name=adversarial", f"learner.name={learner}"),
            "inner.steps=1",
        ],
    )
    cost = trace(config, episodes=1)
    assert cost.flops > 0
    assert cost.activations > 0
