"""Activations of a backbone computed again: the same gradient in less memory. Plans of both."""

from pathlib import Path

import pytest
import torch
from gradients import assert_same
from test_backbones import SMALL, episode, moved
from tiny_backbones import CONFIGURATIONS, overrides_of, write_pipeline
from torch.func import functional_call

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.learning.learners import LEARNERS
from metatrain.model.adapt import sooner_together
from metatrain.model.build import build_generator, build_learner, build_theta
from metatrain.plan.hardware import Hardware
from metatrain.plan.plan import plan_of, remedy
from metatrain.plan.terminal_table import advice
from metatrain.plan.trace import trace

FIRST_ORDER = [
    name
    for name, section in LEARNERS.sections.items()
    if not section.products and section.scope is None
]
DEEP = {
    "SD3Transformer2DModel": {"num_layers": 6},
    "UNet2DConditionModel": {"layers_per_block": 3},
}


def config_of(folder, name, *overrides):
    return load_config(None, overrides_of(folder, name, *SMALL, *overrides))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_recomputed_activations_give_the_same_gradient(tmp_path, name):
    folder, counts = write_pipeline(tmp_path, name), []

    def gradient(*overrides):
        config = config_of(folder, name, "learner.name=fomaml", *overrides)
        theta = build_theta(config).double()
        calls = [0]
        for module in theta.generator.network.model.modules():
            if type(module).__name__.endswith(("Norm", "Linear")):
                module.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
        result = build_learner(config, theta).episode_gradient(moved(theta), episode(), 0)
        counts.append(calls[0])
        return result.gradient

    assert_same(gradient("generator.recompute=true"), gradient())
    assert counts[0] > 1.2 * counts[1], "layers are computed again"


@pytest.mark.parametrize("learner", FIRST_ORDER)
def test_every_learner_of_first_order_recomputes(tmp_path, learner):
    name = "SD3Transformer2DModel"
    folder = write_pipeline(tmp_path, name)

    def gradient(*overrides):
        config = config_of(folder, name, f"learner.name={learner}", *overrides)
        theta = build_theta(config).double()
        return build_learner(config, theta).episode_gradient(moved(theta), episode(), 0).gradient

    assert_same(gradient("generator.recompute=true"), gradient())


def saved_bytes(config):
    """Count the bytes that autograd holds between a loss and its gradient."""
    generator, held = build_generator(config), {}

    def pack(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for parameter in generator.parameters():
        held[parameter.untyped_storage().data_ptr()] = 0
    weights = set(held)
    batch = episode(torch.float32).support_batch(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = generator(*generator.prepare(batch))
    size = sum(size for place, size in held.items() if place not in weights)
    assert loss.requires_grad
    return size


@pytest.mark.parametrize("name", DEEP)
def test_recomputing_holds_less(tmp_path, name):
    folder = write_pipeline(tmp_path, name, **DEEP[name])
    plain, recomputed = (
        config_of(folder, name, "learner.name=fomaml", f"generator.recompute={on}")
        for on in ("false", "true")
    )
    assert saved_bytes(recomputed) < 0.5 * saved_bytes(plain)


@pytest.mark.long
def test_a_plan_knows_that_activations_are_computed_again(tmp_path):
    name = "SD3Transformer2DModel"
    folder = write_pipeline(tmp_path, name, **DEEP[name])
    fomaml = ("learner.name=fomaml", "inner.steps=1")
    before, after = (
        trace(config_of(folder, name, *fomaml, f"generator.recompute={on}"), 1)
        for on in ("false", "true")
    )
    assert after.activations < 0.7 * before.activations
    assert 1.2 * before.flops < after.flops < 1.6 * before.flops


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["learner.name=maml"], "learner maml differentiates twice"),
        (["learner.name=fomaml", "meta.tasks_at_once=2"], r"meta\.tasks_at_once is 2"),
        (["learner.name=fomaml", "inner.compile=true"], r"inner\.compile is true"),
    ],
)
def test_what_cannot_recompute_is_a_sentence(tmp_path, overrides, reason):
    name = "UNet2DModel"
    with pytest.raises(UserError, match=rf"serves learners of first order.* and {reason}"):
        config_of(tmp_path, name, "generator.recompute=true", *overrides)


def test_tasks_that_recompute_adapt_one_by_one(tmp_path):
    name = "UNet2DModel"
    folder = write_pipeline(tmp_path, name)
    for on in (False, True):
        config = config_of(folder, name, "learner.name=fomaml", f"generator.recompute={on}")
        theta = build_theta(config).to("meta")  # as on a GPU, where they would adapt at once
        assert sooner_together(config, theta) == (not on)


def test_a_plan_counts_frozen_weights_in_their_precision(tmp_path):
    name = "FluxTransformer2DModel"
    folder = write_pipeline(tmp_path, name)

    def plan(*overrides):
        gpus = ("cluster.gpus_per_worker=1", "learner.name=fomaml", *overrides)
        return plan_of(config_of(folder, name, *gpus), Hardware(80e9, 8, 1e9, 1e8, tflops=1.0))

    full, half = plan(), plan("generator.precision=bf16")
    theta = build_theta(full.config)
    frozen = [p for p in theta.parameters() if not p.requires_grad]
    numbers, others = sum(p.numel() for p in frozen), sum(b.nbytes for b in theta.buffers())
    assert full.memory.permanent["frozen weights"] == 4 * numbers + others
    assert half.memory.permanent["frozen weights"] == pytest.approx(2 * numbers + others, rel=0.01)
    assert half.memory.inner["activations"] < full.memory.inner["activations"]
    longer = plan("generator.tokens=64")
    assert longer.cost.flops > full.cost.flops


def test_a_gpu_too_small_for_a_backbone_is_told_what_would_fit(tmp_path):
    name = "FluxTransformer2DModel"
    folder = write_pipeline(tmp_path, name, num_layers=2, num_attention_heads=24)
    few = ("data.shots=1", "data.queries=1", "learner.name=fomaml")

    def load(further=()):
        return config_of(folder, name, "cluster.gpus_per_worker=1", *few, *further)

    def plan(memory, *further):
        return plan_of(load(further), Hardware(memory, 1, 1e9, 1e8, tflops=1.0))

    enough = plan(80e9, "generator.precision=bf16").memory.peak
    changes, better = remedy(plan(enough), load)
    assert changes == ["generator.precision=bf16"]
    assert better.fits
    assert advice([], plan(1000.0)).endswith("; choose a smaller backbone.")


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "part", "billions"),
    [
        ("sdxl", "unet", 2.567),
        ("sd3.5-medium", "transformer", 2.243),
        ("flux-dev", "transformer", 11.901),
    ],
)
def test_configurations_of_backbones_are_as_large_as_theirs(name, part, billions):
    path = f"configs/backbones/{name}"
    config = load_config(
        str(Path("configs") / ("flux-lora.yaml" if "flux" in name else "sd-lora.yaml")),
        [
            *(f"generator.path={path}", f"generator.subfolder={part}", f"codec.path={path}"),
            *(f"objective.path={path}", "objective.min_snr=null" if "sd3" in name else "seed=0"),
        ],
    )
    with torch.device("meta"):
        theta = build_theta(config)
    frozen = [p for p in theta.generator.network.parameters() if not p.requires_grad]
    assert sum(p.numel() for p in frozen) == pytest.approx(1e9 * billions, rel=1e-3)
    assert all(p.requires_grad for p in theta.named().values())


@pytest.mark.parametrize("name", ["UNet2DConditionModel", "SD3Transformer2DModel"])
def test_weights_given_for_one_call_are_those_of_the_gradient_too(tmp_path, name):
    folder = write_pipeline(tmp_path, name)

    def gradient(on):
        config = config_of(folder, name, "learner.name=fomaml", f"generator.recompute={on}")
        theta = build_theta(config).double()
        generator, values = theta.generator, moved(theta)
        weights = {n: p.detach().clone().requires_grad_() for n, p in values.items()}
        draw = generator.prepare(episode().support_batch(0))
        functional_call(generator, weights, tuple(draw)).backward()
        return {n: p.grad for n, p in weights.items() if p.grad is not None}

    plain = gradient("false")
    assert plain and any(g.abs().max() > 0 for g in plain.values())
    assert_same(gradient("true"), plain)
