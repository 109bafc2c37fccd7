"""Ensemble and mixture against their plain formulas in float64."""

import pytest
import torch

from metatrain.base.errors import UserError
from metatrain.combine.learned import ensemble, mixture
from metatrain.config import load_config
from metatrain.data.batch import support_batch
from metatrain.data.examples import Examples
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model

SMALL = ["data.image_size=8", "generator.width=8", "adapt.steps=10"]
KINDS = {"unet": [], "dit": ["generator.name=dit", "generator.depth=1"]}


def trained(seed, *overrides):
    """Return a model like a trained one: its weights differ from the initial ones."""
    config = load_config(None, [*SMALL, *overrides])
    stream = torch.Generator().manual_seed(seed)
    parameters = {
        name: p.detach() + 0.1 * torch.randn(p.shape, generator=stream)
        for name, p in build_theta(config).named().items()
    }
    return Model(config, parameters, step=seed)


@pytest.fixture(params=KINDS)
def three(request):
    return {f"model {i}": trained(i, *KINDS[request.param]) for i in range(3)}


@pytest.fixture
def inputs():
    """Return images, their times, a support, and the part of it visible to each image."""
    stream = torch.Generator().manual_seed(0)
    x, support = (torch.randn(n, 1, 8, 8, generator=stream).double() for n in (2, 3))
    t = torch.tensor([0.3, 0.8]).double()
    return x, t, support, torch.tensor([[True, False, True], [False, False, False]])


def velocity(generator, inputs):
    x, t, support, visible = inputs
    network = generator.double().network
    return network.velocity(x, t, network.encode(support), visible)


def images(seed):
    noise = torch.Generator().manual_seed(seed)
    return Examples(torch.rand(4, 1, 8, 8, generator=noise) * 2 - 1)


def test_an_ensemble_s_velocity_is_the_weighted_sum_of_its_members(three, inputs):
    generator = ensemble(three).generator().double()
    logits = torch.tensor([0.5, -1.0, 2.0]).double()
    generator.network.weights.logits.data = logits
    weights = logits.exp() / logits.exp().sum()
    velocities = [velocity(model.generator(), inputs) for model in three.values()]
    expected = sum(w * v for w, v in zip(weights, velocities, strict=True))
    torch.testing.assert_close(velocity(generator, inputs), expected, rtol=1e-10, atol=1e-12)


def test_an_ensemble_of_equal_members_samples_as_one_does():
    one = trained(1)
    many = ensemble({"a": one, "b": one, "c": one})
    samples = many.generator().sample(images(0), 2, seed=3)
    torch.testing.assert_close(samples, one.generator().sample(images(0), 2, seed=3))


def test_adapting_an_ensemble_prefers_the_better_member_and_moves_nothing_else():
    support = images(0)
    better = trained(1, "adapt.steps=60", "adapt.lr=0.01").adapt(support)
    combined = ensemble({"worse": trained(2), "better": better, "worst": trained(3)})
    adapted = combined.adapt(support)
    worse, best, worst = adapted.parameters["network.weights.logits"].softmax(0)
    assert best > 0.4 > max(worse, worst)
    others = set(adapted.parameters) - {"network.weights.logits"}
    assert all(torch.equal(adapted.parameters[n], combined.parameters[n]) for n in others)


def test_a_mixture_starts_as_the_first_model_exactly(three, inputs):
    expected = velocity(next(iter(three.values())).generator(), inputs)
    assert torch.equal(velocity(mixture(three).generator(), inputs), expected)


@pytest.mark.parametrize("which", [1, 2])
def test_a_mixture_at_one_of_its_models_is_that_model(three, inputs, which):
    generator = mixture(three).generator()
    generator.network.coefficients.alpha.data[which - 1] = 1.0
    expected = velocity(three[f"model {which}"].generator(), inputs)
    torch.testing.assert_close(velocity(generator, inputs), expected, rtol=1e-5, atol=1e-6)


def test_a_mixture_is_the_network_at_theta_0_plus_the_sum_of_the_vectors(three, inputs):
    alpha = [0.7, -0.4]
    generator = mixture(three).generator().double()
    generator.network.coefficients.alpha.data = torch.tensor(alpha, dtype=torch.float64)
    start, *others = [model.parameters for model in three.values()]
    mixed = {
        name: p.double()
        + sum(a * (o[name] - p).double() for a, o in zip(alpha, others, strict=True))
        for name, p in start.items()
    }
    plain = next(iter(three.values())).generator().double()
    plain.load_state_dict(mixed)
    expected = velocity(plain, inputs)
    torch.testing.assert_close(velocity(generator, inputs), expected, rtol=1e-8, atol=1e-9)


def test_a_mixture_goes_down_the_slope_along_its_vectors(three):
    """Check d loss / d alpha_i = gradient . tau_i; Adam's first step is its sign."""
    start, *others = three.values()
    combined, support = mixture(three), images(0)
    adapter = combined.adapter()
    steps = adapter.steps(support)
    next(steps), next(steps)
    generator = start.generator()
    generator.losses(support_batch(support, 0, 0))[0].backward()
    slopes = [
        sum((p.grad * (o.parameters[n] - p)).sum() for n, p in generator.named_parameters())
        for o in others
    ]
    alpha = adapter.generator.network.coefficients.alpha.detach()
    torch.testing.assert_close(
        alpha, -combined.config.adapt.lr * torch.stack(slopes).sign(), rtol=1e-3, atol=0
    )


def test_adapting_a_mixture_finds_the_model_of_the_task_and_moves_alpha_alone():
    support, start = images(0), trained(1)
    fitted = trained(1, "adapt.steps=60", "adapt.lr=0.01").adapt(support)
    combined = mixture({"start": start, "elsewhere": trained(2), "fitted": fitted})
    adapted = combined.adapt(support)
    elsewhere, towards = adapted.parameters["network.coefficients.alpha"]
    assert towards > 0.1
    assert towards > elsewhere
    others = set(adapted.parameters) - {"network.coefficients.alpha"}
    assert all(torch.equal(adapted.parameters[n], combined.parameters[n]) for n in others)


@pytest.mark.parametrize("combination", [ensemble, mixture])
def test_a_combination_comes_back_from_its_file_and_draws_the_same(combination, three, tmp_path):
    adapted = combination(three).adapt(images(0))
    adapted.save(f"{tmp_path}/m.safetensors")
    loaded = load_model(f"{tmp_path}/m.safetensors")
    assert loaded.config == adapted.config
    samples, again = (m.generator().sample(images(0), 2, seed=1) for m in (adapted, loaded))
    assert torch.equal(samples, again)


@pytest.mark.parametrize("name", ["ensemble", "mixture"])
@pytest.mark.parametrize("scope", ["all", "film", "lora", "body", "context"])
def test_a_combination_adapts_by_its_weights_alone(name, scope):
    assert load_config(None, [f"generator.name={name}"]).inner.scope.name == "head"
    with pytest.raises(UserError, match=f"generator {name} adapts by its head alone, and inner"):
        load_config(None, [f"generator.name={name}", f"inner.scope.name={scope}"])


def test_a_learned_rule_is_left_behind_and_parameters_of_a_scope_are_refused():
    learned = trained(1, "learner.name=meta-sgd")
    assert any(name.startswith("inner_rule.") for name in learned.parameters)
    combined = ensemble({"a": trained(0), "b": learned})
    assert combined.generator().sample(images(0), 1, seed=0).isfinite().all()
    for combination in (ensemble, mixture):
        with pytest.raises(UserError, match=r"^b has parameters beside .*inner\.scope\.name=lora"):
            combination({"a": trained(0), "b": trained(1, "inner.scope.name=lora")})
        nested = ensemble({"a": trained(0), "b": trained(1)})
        with pytest.raises(UserError, match=r"c has generator\.name=ensemble, which is a comb"):
            combination({"c": nested, "d": nested})
