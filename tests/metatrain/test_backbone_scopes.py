"""Scopes of a frozen backbone's layers: changes beside them, exact to the second order."""

import copy

import diffusers
import pytest
import torch
from gradients import assert_same
from test_backbones import SMALL, episode, moved, predicted, without
from test_export import outputs
from tiny_backbones import CONFIGURATIONS, overrides_of, write_pipeline
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators.frozen import pinned
from metatrain.learning.inner.deltas import deltas_of
from metatrain.learning.inner.layer_scopes import LayerScope
from metatrain.learning.inner.registry import SCOPES
from metatrain.model.build import build_learner, build_theta
from metatrain.model.export.backbone import export_merged
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.training.initial_weights import initial_constants, initial_weights

OF_LAYERS = [name for name, scope in SCOPES.items() if issubclass(scope, LayerScope)]
WITH_NORMS = {"SD3Transformer2DModel": {"qk_norm": "rms_norm"}}
CASES = [
    (name, scope)
    for name in CONFIGURATIONS
    for scope in OF_LAYERS
    if (name, scope) != ("DiTTransformer2DModel", "norms")
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each class, with norms that have scales where the class may have such."""
    root = tmp_path_factory.mktemp("backbones")
    return {n: write_pipeline(root / n, n, **WITH_NORMS.get(n, {})) for n in CONFIGURATIONS}


def config_of(folder, name, scope, *further):
    overrides = without("inner.scope", overrides_of(folder, name, *SMALL, *further))
    return load_config(None, [*overrides, f"inner.scope.name={scope}"])


class Plain:
    """The same generator without changes beside its layers, whose weights themselves move."""

    def __init__(self, theta):
        self.generator = copy.deepcopy(theta.generator)
        network = self.generator.network
        self.weights = {}
        for layer in deltas_of(network):
            module = network.get_submodule(layer)
            del module.delta
            module._forward_hooks.clear()
            for leaf, weight in module.named_parameters():
                self.weights[f"network.{layer}.delta.layer.{leaf}"] = weight

    def loss(self, phi, batch):
        weights = {n.replace(".delta.layer", ""): self.weights[n] + d for n, d in phi.items()}
        with sdpa_kernel(SDPBackend.MATH):
            return functional_call(self.generator, weights, self.generator.prepare(batch))

    def maml(self, values, episode, steps, rate):
        start = {name: value.clone().requires_grad_() for name, value in values.items()}
        phi = dict(start)
        for step in range(steps):
            loss = self.loss(phi, episode.support_batch(step))
            slopes = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
            phi = {n: w - rate * g for (n, w), g in zip(phi.items(), slopes, strict=True)}
        slopes = torch.autograd.grad(
            self.loss(phi, episode.query_batch()), list(start.values()), materialize_grads=True
        )
        return dict(zip(start, slopes, strict=True))


@pytest.mark.parametrize(("name", "scope"), CASES)
def test_maml_over_changes_is_the_derivative_of_a_plain_loop_over_weights(folders, name, scope):
    config = config_of(folders[name], name, scope, "learner.name=maml")
    theta = build_theta(config).double()
    learner, values = build_learner(config, theta), moved(theta)
    assert set(theta.named()) == set(learner.inner.scope)
    reference = Plain(theta).maml(values, episode(), 2, 0.01)
    gradient = learner.episode_gradient(values, episode(), 0).gradient
    assert any(g.any() for g in gradient.values())
    assert_same(gradient, reference)


def parents(model, name):
    """Classes of the modules that a module is directly in, as far as lists are left out."""
    parts = name.split(".")
    above = [model.get_submodule(".".join(parts[:end])) for end in range(len(parts))]
    return [type(m).__name__ for m in above if not isinstance(m, torch.nn.ModuleList)][-1:]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_layers_are_chosen_by_what_they_are_a_part_of(folders, name):
    model = getattr(diffusers, name).from_pretrained(folders[name] / "model")
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    attend = {n for n in linear if any("Attention" in kind for kind in parents(model, n))}
    modulate = {
        n
        for n in linear
        if any(kind.startswith(("AdaLayerNorm", "ResnetBlock")) for kind in parents(model, n))
    }
    for scope, layers in (("attention", attend), ("film", modulate)):
        network = build_theta(config_of(folders[name], name, scope)).generator.network
        chosen = {layer.removeprefix("model.") for layer in deltas_of(network)}
        # The last modulation of DiT is a layer of the model itself.
        assert chosen - {"proj_out_1"} == layers
        assert layers


@pytest.mark.parametrize(
    ("name", "scope"),
    [("UNet2DModel", "norms"), ("FluxTransformer2DModel", "norms"), (*CASES[0],)],
)
def test_several_tasks_share_one_pass_of_the_frozen_layers(folders, name, scope):
    first = episode()
    pair = (first.support, first.query)
    episodes = [first, Episode("other", *[Examples(-e.target) for e in pair], 9)]

    def outer(*further):
        config = config_of(folders[name], name, scope, "learner.name=fomaml", *further)
        theta = build_theta(config).double()
        return build_learner(config, theta).outer_gradient(moved(theta), episodes, 0).gradient

    assert_same(outer("meta.tasks_at_once=2"), outer())


def test_changes_of_layers_in_bf16_are_in_fp32(folders):
    name, x = "FluxTransformer2DModel", torch.randn(2, 1, 8, 8)
    fine, config = (
        config_of(folders[name], name, "attention", "learner.name=maml", precision)
        for precision in ("generator.precision=fp32", "generator.precision=bf16")
    )
    theta = build_theta(config)
    assert {p.dtype for p in theta.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert {p.dtype for p in theta.named().values()} == {torch.float32}
    values = moved(theta)
    outer = build_learner(config, theta).episode_gradient(values, episode(torch.float32), 0)
    assert outer.is_finite()
    assert all(g.dtype == torch.float32 and g.any() for g in outer.gradient.values())
    rounded = predicted(theta.load(values).generator.network, x)
    expected = predicted(build_theta(fine).load(values).generator.network, x)
    assert 0 < (rounded - expected).norm() < 0.03 * expected.norm()


def test_a_model_of_changes_is_saved_adapted_and_merged(folders, tmp_path):
    name = "UNet2DConditionModel"
    config = pinned(config_of(folders[name], name, "norms"))
    Model(config, moved(build_theta(config)), 0).save(tmp_path / "model.safetensors")
    model = load_model(str(tmp_path / "model.safetensors"))
    assert all(".delta." in key for key in model.parameters)
    adapted = model.adapt(torch.rand(3, 1, 8, 8) * 2 - 1)
    with pytest.raises(UserError, match="only be adapted in the scope of its training, norms"):
        model.adapt(torch.rand(3, 1, 8, 8) * 2 - 1, scope="film")
    network = adapted.generator().network
    merged = getattr(diffusers, name).from_pretrained(export_merged(adapted, str(tmp_path / "out")))
    ours, theirs = outputs(network, merged)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    plain = getattr(diffusers, name).from_pretrained(folders[name] / "model")
    assert not torch.allclose(outputs(network, plain)[1], ours, atol=1e-3)


def test_workers_that_build_without_values_get_the_same(folders):
    name = "SD3Transformer2DModel"
    config = config_of(folders[name], name, "attention")
    theta, constants = build_theta(config), initial_constants(config)
    frozen = {n: p for n, p in theta.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(torch.equal(constants[n], p) for n, p in frozen.items())
    with torch.device("meta"):
        assert build_theta(config).named().keys() == theta.named().keys()
    start = initial_weights(config)
    assert start.keys() == theta.named().keys() and not any(p.any() for p in start.values())


WITHOUT_ATTENTION = {
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "add_attention": False,
}


@pytest.mark.parametrize(
    ("name", "scope", "changes", "kind"),
    [
        ("DiTTransformer2DModel", "norms", {}, "normalisation with scales of its own"),
        ("SD3Transformer2DModel", "norms", {}, "normalisation with scales of its own"),
        ("UNet2DModel", "attention", WITHOUT_ATTENTION, "attention"),
    ],
)
def test_a_backbone_without_such_layers_is_a_sentence(tmp_path, name, scope, changes, kind):
    folder = write_pipeline(tmp_path, name, **changes)
    sentence = rf"scope\.name={scope} moves no parameter of Backbone, which has no {kind}; use "
    with pytest.raises(UserError, match=f"{sentence}inner.scope.name=lora"):
        build_theta(config_of(folder, name, scope))
