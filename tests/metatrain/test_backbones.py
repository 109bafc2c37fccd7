"""Backbones of diffusers: frozen, adapted by LoRA, exact to the second order."""

import copy
from dataclasses import replace

import diffusers
import peft
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)
from gradients import assert_same
from safetensors.torch import save_file
from tiny_backbones import (
    CONFIGURATIONS,
    SDXL,
    model_of,
    overrides_of,
    rewritten,
    write_pipeline,
)
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from metatrain.base.errors import UntrustedError, UserError
from metatrain.config import load_config, with_values
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators.frozen import pinned
from metatrain.learning.inner.low_rank import low_rank_terms
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_generator, build_learner, build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.training.initial_weights import initial_constants, initial_weights

SMALL = ("inner.steps=2", "inner.lr=0.01", "inner.optimizer=sgd", "adapt.steps=2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with a model and a scheduler of each class."""
    root = tmp_path_factory.mktemp("backbones")
    return {name: write_pipeline(root / name, name) for name in CONFIGURATIONS}


def episode(dtype=torch.float64):
    noise = torch.Generator().manual_seed(1)
    images = torch.rand(5, 1, 8, 8, generator=noise, dtype=dtype) * 2 - 1
    return Episode("task", *Examples(images).split(3), 7)


def moved(theta):
    """Values of theta away from where terms are 0."""
    noise = torch.Generator().manual_seed(2)
    return {
        name: p.detach() + 0.1 * torch.randn(p.shape, generator=noise, dtype=p.dtype)
        for name, p in theta.named().items()
    }


class Peft:
    """The same generator with PEFT's layers in the place of ours, and a plain loop over it."""

    def __init__(self, generator, values):
        self.generator = copy.deepcopy(generator)
        model, self.start, self.inside = self.generator.network.model, {}, {}
        layers = list(low_rank_terms(model))
        for layer in map(model.get_submodule, layers):
            del layer.lora
            layer._forward_hooks.clear()
        config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=layers)
        peft.inject_adapter_in_model(config, model)
        for layer in layers:
            for ours, theirs in (("down", "lora_A"), ("up", "lora_B")):
                name = f"network.model.{layer}.lora.{ours}"
                self.start[name] = values[name].clone().requires_grad_()
                self.inside[name] = f"network.model.{layer}.{theirs}.default.weight"

    def loss(self, phi, batch):
        weights = {self.inside[name]: w for name, w in phi.items()}
        with sdpa_kernel(SDPBackend.MATH):
            return functional_call(self.generator, weights, self.generator.prepare(batch))

    def maml(self, episode, steps, rate):
        phi = dict(self.start)
        for step in range(steps):
            loss = self.loss(phi, episode.support_batch(step))
            slopes = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
            phi = {n: w - rate * g for (n, w), g in zip(phi.items(), slopes, strict=True)}
        loss = self.loss(phi, episode.query_batch())
        slopes = torch.autograd.grad(loss, list(self.start.values()))
        return dict(zip(self.start, slopes, strict=True))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_maml_over_every_class_is_the_derivative_of_a_plain_loop_over_peft(folders, name):
    config = load_config(None, overrides_of(folders[name], name, *SMALL, "learner.name=maml"))
    theta = build_theta(config).double()
    assert set(theta.named()) == set(build_learner(config, theta).inner.scope)
    values = moved(theta)
    reference = Peft(theta.generator, values).maml(episode(), 2, 0.01)
    learner = build_learner(config, theta)
    assert_same(learner.episode_gradient(values, episode(), 0).gradient, reference)


def predicted(network, x, time=40):
    times = torch.full((len(x),), time)
    with torch.no_grad():
        return network.predict(x, times, torch.zeros(len(x), dtype=torch.long))


@pytest.mark.parametrize(
    "learner", [n for n, kind in LEARNERS.items() if kind.Config.scope is None]
)
def test_every_learner_works_over_a_frozen_backbone(folders, learner):
    name = "SD3Transformer2DModel"
    overrides = [*SMALL, "inner.lr=1e-3", f"learner.name={learner}"]
    config = load_config(None, overrides_of(folders[name], name, *overrides))
    theta = build_theta(config).double()
    outer = build_learner(config, theta).episode_gradient(moved(theta), episode(), 0)
    assert outer.is_finite()
    assert all(g.isfinite().all() for g in outer.gradient.values())
    terms = [n for n in outer.gradient if n.endswith(("lora.up", "lora.down"))]
    assert terms
    # What a layer does not see of its input cannot be learned: the last block drops its text.
    assert sum(bool(outer.gradient[n].any()) for n in terms) > len(terms) / 2


@pytest.mark.parametrize("name", ["UNet2DModel", "SD3Transformer2DModel"])
def test_several_tasks_over_one_pass_of_a_frozen_backbone(folders, name):
    def outer(*further):
        overrides = overrides_of(folders[name], name, *SMALL, "learner.name=fomaml", *further)
        config = load_config(None, overrides)
        theta = build_theta(config).double()
        episodes = [episode(), Episode("other", *[e.map(torch.neg) for e in pair], 9)]
        return build_learner(config, theta).outer_gradient(moved(theta), episodes, 0).gradient

    first = episode()
    pair = (first.support, first.query)
    assert_same(outer("meta.tasks_at_once=2"), outer())


def test_rslora_scales_terms_as_peft_does(folders):
    name = "UNet2DModel"
    further = ["inner.scope.rslora=true", "inner.scope.rank=4"]
    theta = build_theta(load_config(None, overrides_of(folders[name], name, *further)))
    network = theta.generator.network
    [scale] = {term.scale for term in low_rank_terms(network).values()}
    config = peft.LoraConfig(r=4, lora_alpha=4, use_rslora=True, target_modules=["to_q"])
    injected = peft.inject_adapter_in_model(config, model_of(name))
    layer = next(m for m in injected.modules() if hasattr(m, "scaling"))
    assert scale == layer.scaling["default"] == 2


@pytest.mark.parametrize("dora", [False, True])
def test_pefts_gradient_of_dora_is_no_derivative(dora):
    """It takes the norm of W + BA for a constant, so that no second order is that of its loss."""
    torch.manual_seed(0)
    layer, x = torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.randn(5, 4).double()
    config = peft.LoraConfig(r=2, use_dora=dora, target_modules=["0"], init_lora_weights=False)
    model = peft.inject_adapter_in_model(config, layer).double()
    factor = model.get_parameter("0.lora_B.default.weight")
    [slope] = torch.autograd.grad(model(x).square().mean(), [factor])
    step = 1e-5 * torch.randn(factor.shape, dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = (
            functional_call(model, {"0.lora_B.default.weight": factor + side * step}, (x,))
            for side in (1, -1)
        )
    change = (ahead.square().mean() - behind.square().mean()) / 2
    error = (change - (slope * step).sum()).abs() / change.abs()
    assert (error > 1e-2) == dora
    assert dora or error < 1e-6


def test_a_held_precision_of_bf16_leaves_adapters_in_fp32(folders):
    name, x = "FluxTransformer2DModel", torch.randn(2, 1, 8, 8)
    overrides = [*overrides_of(folders[name], name, *SMALL), "learner.name=maml"]
    fine = build_generator(load_config(None, overrides))
    config = load_config(None, [*overrides, "generator.precision=bf16"])
    theta = build_theta(config)
    frozen = [p for p in theta.parameters() if not p.requires_grad]
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    assert {p.dtype for p in theta.named().values()} == {torch.float32}
    expected = predicted(fine.network, x)
    rounded = predicted(theta.generator.network, x)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - expected).norm() < 0.03 * expected.norm()
    outer = build_learner(config, theta).episode_gradient(moved(theta), episode(torch.float32), 0)
    assert outer.is_finite()
    assert all(g.dtype == torch.float32 and g.any() for g in outer.gradient.values())


def without(prefix, overrides):
    return [override for override in overrides if not override.startswith(prefix)]


def test_random_backbones_are_trained_whole(folders):
    name = "DiTTransformer2DModel"
    config = load_config(
        None,
        [*without("inner.", overrides_of(folders[name], name)), "generator.init=random"],
    )
    theta = build_theta(config).double()
    assert len(theta.named()) == len(list(theta.generator.network.model.parameters()))
    outer = build_learner(config, theta).episode_gradient(moved(theta), episode(), 0)
    assert outer.is_finite()
    assert list(pinned(config).generator.sha256) == ["config.json"]


# Noise levels, against diffusers' own.


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_noise_and_targets_are_those_of_the_scheduler(folders, tmp_path, prediction):
    scheduler = DDPMScheduler(prediction_type=prediction, beta_schedule="scaled_linear")
    scheduler.save_pretrained(tmp_path)
    name = "UNet2DModel"
    further = [f"objective.path={tmp_path}", "objective.subfolder=''", "objective.min_snr=5"]
    generator = build_generator(load_config(None, overrides_of(folders[name], name, *further)))
    batch = episode().support_batch()
    noisy, times, wanted, weights, rows = generator.prepare(batch)
    assert not rows.any()
    clean, alphas = batch.examples.target, scheduler.alphas_cumprod[times].double()
    shaped = alphas[:, None, None, None]
    noise = (noisy - shaped.sqrt() * clean) / (1 - shaped).sqrt()
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, times), atol=1e-6, rtol=0)
    velocity = scheduler.get_velocity(clean, noise, times)
    targets = {"epsilon": noise, "sample": clean, "v_prediction": velocity}
    torch.testing.assert_close(wanted, targets[prediction], atol=1e-5, rtol=0)
    snr = alphas / (1 - alphas)
    capped = snr.clamp(max=5)
    expected = {"epsilon": capped / snr, "v_prediction": capped / (snr + 1), "sample": capped}
    torch.testing.assert_close(weights, expected[prediction], rtol=1e-4, atol=0)


def test_levels_of_a_flow_are_shifted_as_the_scheduler_shifts(folders):
    name = "SD3Transformer2DModel"
    generator = build_generator(load_config(None, overrides_of(folders[name], name)))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    places = torch.arange(1000, 0, -1) / 1000
    levels = generator.objective.noising.levels(places)
    torch.testing.assert_close(levels.sigmas, scheduler.sigmas)
    torch.testing.assert_close(levels.times, scheduler.timesteps)
    clean, noise = torch.randn(2, 1000, 1, 1, 1)
    noisy, wanted = levels.noisy_and_target(clean, noise)
    torch.testing.assert_close(noisy, scheduler.scale_noise(clean, scheduler.timesteps, noise))
    torch.testing.assert_close(clean + levels.sigmas[:, None, None, None] * wanted, noisy)


def test_logit_normal_times_lie_in_the_middle(folders):
    name = "SD3Transformer2DModel"
    spread = []
    for times in ("uniform", "logit_normal"):
        overrides = overrides_of(folders[name], name, f"objective.times={times}")
        generator = build_generator(load_config(None, overrides))
        drawn = [generator.prepare(episode().query_batch(i))[1] for i in range(200)]
        spread.append((torch.cat(drawn) / 1000).std())
    # Undone, the shift is monotonous, so that the order of spreads stays.
    assert spread[1] < 0.85 * spread[0]


# Sampling, against diffusers' own pipelines.


def text_file(folder, states, pooled):
    save_file({"states": states, "pooled": pooled}, folder / "text.safetensors")
    return f"generator.text.path={folder}/text.safetensors"


def test_samples_are_those_of_a_pipeline_without_text(folders):
    name = "UNet2DModel"
    config = load_config(None, overrides_of(folders[name], name, "objective.sampler.steps=3"))
    network = build_generator(config).network
    pipeline = diffusers.DDPMPipeline(network.model, DDPMScheduler())
    noise = torch.Generator().manual_seed(5)
    expected = pipeline(2, noise, 3, output_type="np").images
    model = Model(config, build_theta(config).copy(), 0, support=Examples(torch.zeros(1, 1, 8, 8)))
    objective = model.generator().objective
    ours = objective.sample(network, Examples(torch.zeros(1, 1, 8, 8)), 2, 5, None).clamp(-1, 1)
    torch.testing.assert_close(
        (ours / 2 + 0.5).permute(0, 2, 3, 1), torch.from_numpy(expected), atol=1e-5, rtol=0
    )


def guided_pipeline(name, network):
    """A pipeline of the class, and its options beside the texts."""
    if name == "UNet2DConditionModel":
        kind, scheduler = diffusers.StableDiffusionPipeline, DDIMScheduler()
        parts = dict.fromkeys(("safety_checker", "feature_extractor"))
        parts |= {"requires_safety_checker": False, "unet": network.model}
    else:
        kind, scheduler = diffusers.StableDiffusion3Pipeline, FlowMatchEulerDiscreteScheduler()
        parts = dict.fromkeys(("text_encoder_2", "text_encoder_3", "tokenizer_2", "tokenizer_3"))
        parts |= {"transformer": network.model}
    parts |= dict.fromkeys(("vae", "text_encoder", "tokenizer"))
    return kind(**parts, scheduler=scheduler), scheduler


@pytest.mark.parametrize("name", ["UNet2DConditionModel", "SD3Transformer2DModel"])
def test_guided_samples_are_those_of_a_pipeline(folders, tmp_path, name):
    states, pooled = torch.randn(2, 3, 8), torch.randn(2, 0 if "UNet" in name else 6)
    text = text_file(tmp_path, states, pooled)
    sampler = ["objective.sampler.steps=3", "objective.sampler.guidance=4"]
    at = [f"objective.path={tmp_path}", "objective.subfolder=''"]
    overrides = overrides_of(folders[name], name, text, *sampler, *at)
    _, scheduler = guided_pipeline(
        name, build_generator(load_config(None, overrides_of(folders[name], name))).network
    )
    scheduler.save_pretrained(tmp_path)
    generator = build_generator(load_config(None, overrides))
    pipeline, _ = guided_pipeline(name, generator.network)
    noise = torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(5))
    given = {"prompt_embeds": states[:1], "negative_prompt_embeds": states[1:]}
    if pooled.numel():
        given |= {"pooled_prompt_embeds": pooled[:1], "negative_pooled_prompt_embeds": pooled[1:]}
    given = {key: value.expand(2, *value.shape[1:]) for key, value in given.items()}
    expected = pipeline(
        latents=noise, num_inference_steps=3, guidance_scale=4.0, output_type="latent", **given
    ).images
    ours = generator.objective.sample(
        generator.network, Examples(torch.zeros(1, 1, 8, 8)), 2, 5, None
    )
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_flux_is_called_as_its_pipeline_calls_it(folders, tmp_path):
    name = "FluxTransformer2DModel"
    values = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    values.save_pretrained(tmp_path)
    states, pooled = torch.randn(2, 3, 8), torch.randn(2, 6)
    at = [f"objective.path={tmp_path}", "objective.subfolder=''", "objective.sampler.steps=3"]
    text = text_file(tmp_path, states, pooled)
    config = load_config(None, overrides_of(folders[name], name, text, *at))
    generator = build_generator(config)
    absent = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    pipeline = diffusers.FluxPipeline(
        scheduler=values, transformer=generator.network.model, **dict.fromkeys(absent)
    )
    noise = torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(5))
    packed = pipeline._pack_latents(noise, 2, 1, 8, 8)
    expected = pipeline(
        prompt_embeds=states[:1].expand(2, -1, -1),
        pooled_prompt_embeds=pooled[:1].expand(2, -1),
        latents=packed,
        height=64,
        width=64,
        num_inference_steps=3,
        output_type="latent",
    ).images
    unpacked = pipeline._unpack_latents(expected, 64, 64, 8)
    ours = generator.objective.sample(
        generator.network, Examples(torch.zeros(1, 1, 8, 8)), 2, 5, None
    )
    torch.testing.assert_close(ours, unpacked, atol=1e-4, rtol=1e-4)


def test_sdxl_sees_its_pooled_text_and_sizes(tmp_path):
    folder = write_pipeline(tmp_path, "UNet2DConditionModel", **SDXL)
    states, pooled = torch.randn(2, 3, 8), torch.randn(2, 8)
    text = text_file(tmp_path, states, pooled)
    overrides = overrides_of(folder, "UNet2DConditionModel", text)
    network = build_generator(load_config(None, overrides)).network
    x = torch.randn(1, 1, 8, 8)
    given = {"text_embeds": pooled[:1], "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
    with torch.no_grad():
        expected = network.model(x, 40, states[:1], added_cond_kwargs=given).sample
    torch.testing.assert_close(predicted(network, x), expected)


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, PNDMScheduler])
def test_other_schedulers_sample_too(folders, tmp_path, kind):
    kind().save_pretrained(tmp_path)
    name = "UNet2DModel"
    at = [f"objective.path={tmp_path}", "objective.subfolder=''", "objective.sampler.steps=4"]
    generator = build_generator(load_config(None, overrides_of(folders[name], name, *at)))
    support = Examples(torch.zeros(1, 1, 8, 8))
    samples = generator.sample(support, 2, seed=3)
    assert samples.isfinite().all()
    assert torch.equal(samples, generator.sample(support, 2, seed=3))
    assert not torch.equal(samples, generator.sample(support, 2, seed=4))


# Model files and folders.


@pytest.fixture
def run(folders, tmp_path):
    """A model over a backbone of its own folder, saved; its folder and its file."""
    folder = write_pipeline(tmp_path / "backbone", "UNet2DModel")
    config = pinned(load_config(None, overrides_of(folder, "UNet2DModel", *SMALL)))
    Model(config, moved(build_theta(config)), 0).save(tmp_path / "model.safetensors")
    return folder / "model", tmp_path / "model.safetensors"


def test_a_model_file_holds_adapters_and_names_its_backbone(run):
    folder, file = run
    assert file.stat().st_size < (folder / "diffusion_pytorch_model.safetensors").stat().st_size
    model = load_model(str(file))
    assert all(".lora." in name for name in model.parameters)
    assert set(model.config.generator.sha256) == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    assert list(model.config.objective.sha256) == ["scheduler_config.json"]
    adapted = model.adapt(torch.rand(3, 1, 8, 8) * 2 - 1)
    assert adapted.sample(2).isfinite().all()


def test_a_run_starts_from_the_lora_of_another(run):
    model = load_model(str(run[1]))
    start = initial_weights(with_values(model.config, {"run.init": str(run[1]), "seed": 9}))
    assert start.keys() == model.parameters.keys()
    assert all(torch.equal(start[name], value) for name, value in model.parameters.items())


def test_another_backbone_is_refused(run, tmp_path):
    folder, file = run
    write_pipeline(tmp_path / "backbone", "UNet2DModel", seed=1)
    with pytest.raises(UserError, match=r"model\.safetensors has sha256 .* was trained with"):
        load_model(str(file)).generator()
    rewritten(folder / "config.json", norm_num_groups=2)
    with pytest.raises(UserError, match=r"config\.json has sha256 .* was trained with"):
        load_model(str(file))


def test_a_pin_that_leaves_a_file_out_opens_nothing(run):
    model = load_model(str(run[1]))
    partial = {"diffusion_pytorch_model.safetensors": "0" * 64}
    section = model.config.generator.model_copy(update={"sha256": partial})
    with pytest.raises(UserError, match=r"is pinned without config\.json"):
        section.values()


@pytest.mark.parametrize("part", ["generator", "objective", "text"])
def test_a_strangers_model_opens_nothing_that_is_not_pinned(run, part):
    file = run[1]
    model = load_model(str(file))
    if part == "text":
        changed = with_values(model.config, {"generator.text.path": "http://127.0.0.1:9/text"})
    else:
        changed = with_values(model.config, {f"{part}.sha256": None})
    replace(model, config=changed).save(file)
    with pytest.raises(UntrustedError, match="the model asks for "):
        load_model(str(file))


def test_weights_in_several_files_are_read_whole(run):
    folder, file = run
    whole = load_model(str(file)).generator().state_dict()
    model = diffusers.UNet2DModel.from_pretrained(folder)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="4KB")
    config = load_config(None, overrides_of(folder.parent, "UNet2DModel", *SMALL))
    parts = build_generator(config).state_dict()
    assert len(pinned(config).generator.sha256) > 3
    frozen = [name for name in whole if ".lora." not in name]
    assert all(torch.equal(parts[name], whole[name]) for name in frozen)


def test_what_is_frozen_reaches_a_worker_that_builds_without_values(run):
    config = load_model(str(run[1])).config
    theta = build_theta(config)
    frozen = {n: p for n, p in theta.named_parameters() if not p.requires_grad}
    constants = initial_constants(config)
    assert frozen
    assert all(torch.equal(constants[name], value) for name, value in frozen.items())
