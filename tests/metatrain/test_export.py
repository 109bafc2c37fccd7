"""Adapted models as files that diffusers and PEFT load, with the same output."""

import diffusers
import peft
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file
from small_models import metatrain, save
from tiny_backbones import CONFIGURATIONS, model_of, overrides_of, write_pipeline

import metatrain as api
from metatrain.config import load_config
from metatrain.config.yaml_values import dumped
from metatrain.generators.frozen import pinned
from metatrain.model.build import build_theta
from metatrain.model.export.backbone import LowRankTerms, export_adapter, lora_tensors
from metatrain.model.model import Model
from metatrain.model.original_layers import original_layers

LORA = "pytorch_lora_weights.safetensors"
EVERY_LAYER = ("inner.scope.target_modules=[]",)


def config_over(pipeline, name, overrides):
    """Configure LoRA over a pipeline's folder; return terms away from 0, too."""
    config = pinned(load_config(None, [*overrides_of(pipeline, name), *overrides]))
    noise = torch.Generator().manual_seed(2)
    return config, {
        n: p.detach() + 0.2 * torch.randn(p.shape, generator=noise)
        for n, p in build_theta(config).named().items()
    }


def exported(folder, name, *options, overrides=()):
    """Export a model with terms away from 0; return it, and what the command printed of."""
    config, values = config_over(write_pipeline(folder / "backbone", name), name, overrides)
    model = Model(config, values, 0)
    model.save(folder / "model.safetensors")
    command = ["export", folder / "model.safetensors", "--out", folder / "out", *options]
    assert metatrain(*command) == 0
    return model, folder / "out"


def outputs(network, model):
    """Return the predictions of our network, and of a model of diffusers called alike."""
    x, times = torch.randn(2, network.shape[0], 8, 8), torch.tensor([30, 40])
    rows = torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        ours = network.predict(x, times, rows)
        kind, text = network.kind, (network.texts.states, network.texts.pooled)
        texts = type("Text", (), {"states": text[0][[0, 0]], "pooled": text[1][[0, 0]]})
        return ours, kind.predict(model, x, times, texts)


def pipeline_of(name):
    """A pipeline around the plain backbone."""
    if name == "UNet2DConditionModel":
        parts = ("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor")
        kind, options = diffusers.StableDiffusionPipeline, {"requires_safety_checker": False}
        options["unet"] = model_of(name)
    else:
        kind, options = diffusers.FluxPipeline, {"transformer": model_of(name)}
        parts = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        if name == "SD3Transformer2DModel":
            kind = diffusers.StableDiffusion3Pipeline
            parts = (*parts, "text_encoder_3", "tokenizer_3")
    return kind(**options, **dict.fromkeys((*parts, "scheduler")))


# Of single blocks, diffusers reads kohya's names for one width alone: see below. It leaves out
# those of layers outside of blocks.
DOUBLE_BLOCKS = (
    "inner.scope.target_modules=[transformer_blocks.0.attn.to_q,transformer_blocks.0.attn.to_v,"
    "add_k_proj,to_out.0,to_add_out,ff.net.0.proj,ff.net.2,ff_context.net.0.proj,ff_context.net.2,"
    "norm1.linear,norm1_context.linear,norm.linear,single_transformer_blocks.0.proj_out]",
)
CASES = [
    ("UNet2DConditionModel", "diffusers", ()),
    ("UNet2DConditionModel", "diffusers", EVERY_LAYER),
    ("UNet2DConditionModel", "kohya", ()),
    ("UNet2DConditionModel", "kohya", ("inner.scope.rslora=true", "inner.scope.rank=3")),
    ("SD3Transformer2DModel", "diffusers", ()),
    ("FluxTransformer2DModel", "diffusers", ()),
    ("FluxTransformer2DModel", "kohya", DOUBLE_BLOCKS),
]


@pytest.mark.parametrize(("name", "format", "overrides"), CASES)
def test_a_pipeline_loads_an_export_with_the_same_output(tmp_path, name, format, overrides):
    model, out = exported(tmp_path, name, "--format", format, overrides=overrides)
    pipeline = pipeline_of(name)
    network = model.generator().network
    backbone = pipeline.unet if "UNet" in name else pipeline.transformer
    ours, plain = outputs(network, backbone)
    assert (ours - plain).abs().max() > 1e-2, "the adapter changes something"
    pipeline.load_lora_weights(str(out), weight_name=LORA)
    torch.testing.assert_close(*outputs(network, backbone), atol=1e-5, rtol=0)


def test_kohyas_names_have_a_strength_of_one(tmp_path):
    _, out = exported(tmp_path, "UNet2DConditionModel", "--format", "kohya")
    tensors = load_file(out / LORA)
    alphas = {name: t.item() for name, t in tensors.items() if name.endswith(".alpha")}
    assert len(tensors) == 3 * len(alphas)
    for name, alpha in alphas.items():
        assert name.startswith("lora_unet_")
        assert tensors[f"{name.removesuffix('.alpha')}.lora_down.weight"].shape[0] == alpha == 2


def test_kohyas_names_of_single_blocks_are_those_that_diffusers_reads():
    """At FLUX's own width, which diffusers' converter has as a constant."""
    noise, width, start = torch.Generator().manual_seed(1), 3072, "single_transformer_blocks.1."
    rows = {f"{start}attn.to_{part}": width for part in "qkv"}
    rows |= {f"{start}proj_mlp": 4 * width, f"{start}norm.linear": 3 * width}
    terms = {
        name: (torch.randn(2, width, generator=noise), torch.randn(count, 2, generator=noise))
        for name, count in rows.items()
        if name != f"{start}attn.to_k"
    }
    adapter = LowRankTerms(terms, 2, "transformer", "FluxTransformer2DModel", rows)
    read = diffusers.FluxPipeline.lora_state_dict(lora_tensors(adapter, "kohya"))
    expected = lora_tensors(adapter, "diffusers")
    assert not any(read.pop(f"transformer.{start}attn.to_k.lora_{f}.weight").any() for f in "AB")
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], value) for name, value in expected.items())


def test_kohyas_terms_add_to_the_weights_of_stable_diffusion_3s_authors(tmp_path):
    """ComfyUI adds them there; diffusers reads such weights, but no such LoRA."""
    name, noise = "SD3Transformer2DModel", torch.Generator().manual_seed(3)
    changes = {"num_layers": 2, "dual_attention_layers": (0,)}
    model = model_of(name, **changes)
    layers = original_layers(name, [n for n, m in model.named_modules() if hasattr(m, "weight")])
    weights = {"pos_embed": model.pos_embed.pos_embed.clone()}
    for layer in layers:
        parts = [model.get_submodule(part).weight for part in layer.parts]
        shape = (sum(map(len, parts)), *parts[0].shape[1:])
        weights[f"{layer.name}.weight"] = 0.3 * torch.randn(shape, generator=noise)
        weights[f"{layer.name}.bias"] = 0.3 * torch.randn(shape[0], generator=noise)
    model.load_state_dict(convert_sd3_transformer_checkpoint_to_diffusers(dict(weights)))
    folder = write_pipeline(tmp_path / "backbone", name, **changes)
    model.save_pretrained(folder / "model")
    config, values = config_over(folder, name, EVERY_LAYER)
    export_adapter(Model(config, values, 0), str(tmp_path), "kohya")
    tensors = load_file(tmp_path / LORA)
    for layer in layers:
        path = f"lora_unet_{layer.name.replace('.', '_')}"
        down, up, alpha = (
            tensors.pop(f"{path}.{leaf}")
            for leaf in ("lora_down.weight", "lora_up.weight", "alpha")
        )
        term = alpha / len(down) * up.flatten(1) @ down.flatten(1)
        weights[f"{layer.name}.weight"] += term.view_as(weights[f"{layer.name}.weight"])
    assert not tensors
    network = Model(config, values, 0).generator().network
    plain = outputs(network, model)[1]
    model.load_state_dict(convert_sd3_transformer_checkpoint_to_diffusers(weights))
    ours, theirs = outputs(network, model)
    assert (ours - plain).abs().max() > 1e-2, "the adapter changes something"
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_peft_loads_an_export_with_the_same_output(tmp_path, name):
    model, out = exported(tmp_path, name, "--format", "peft", overrides=EVERY_LAYER)
    loaded = peft.PeftModel.from_pretrained(model_of(name), str(out)).base_model.model
    torch.testing.assert_close(*outputs(model.generator().network, loaded), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_merged_weights_are_a_model_of_diffusers(tmp_path, name):
    model, out = exported(tmp_path, name, "--merge", overrides=EVERY_LAYER)
    loaded = getattr(diffusers, name).from_pretrained(out)
    torch.testing.assert_close(*outputs(model.generator().network, loaded), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("DiTTransformer2DModel", (), "no pipeline of diffusers loads a LoRA for DiTTrans"),
        ("UNet2DModel", ("--format", "kohya"), "kohya's names are those of UNet2DConditionModel, "),
        ("UNet2DModel", ("--format", "peft", "--merge"), "--merge writes a folder of diffusers"),
    ],
)
def test_what_no_tool_reads_is_not_written(tmp_path, capsys, name, options, sentence):
    with pytest.raises(AssertionError):
        exported(tmp_path, name, *options)
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_network_of_ours_has_no_other_format(packed, tmp_path, capsys):
    model = save(packed, tmp_path / "run")
    words = ["export", f"{model}/model.safetensors", "--out", tmp_path / "out"]
    assert metatrain(*words) == 1
    assert "the model's generator is unet, which other tools do not have" in capsys.readouterr().err


@pytest.mark.long
def test_from_a_pipelines_folder_to_a_lora_that_it_loads(packed, images, tmp_path):
    name = "UNet2DConditionModel"
    pipeline = write_pipeline(tmp_path / "pipeline", name)
    layers = {"down_block_types": ["DownEncoderBlock2D"] * 2, "norm_num_groups": 4}
    layers |= {"up_block_types": ["UpDecoderBlock2D"] * 2, "block_out_channels": (8, 8)}
    channels = {"in_channels": 1, "out_channels": 1, "latent_channels": 1}
    diffusers.AutoencoderKL(**layers, **channels).save_pretrained(pipeline / "vae")
    config = load_config(
        None,
        [
            *overrides_of(pipeline, name, "data.image_size=16", f"data.path={packed}"),
            *("codec.name=autoencoder_kl", f"codec.path={pipeline}", "codec.subfolder=vae"),
            *("data.shots=3", "data.queries=3", "inner.steps=2", "meta.steps=3", "meta.warmup=0"),
            *(f"run.dir={tmp_path}", "run.name=run", "adapt.steps=3", "learner.name=maml"),
        ],
    )
    (tmp_path / "sd.yaml").write_text(dumped(config.model_dump(mode="json")))
    assert metatrain("plan", tmp_path / "sd.yaml") == 0
    trained = api.train(config, device="cpu")
    assert trained.step == 3
    support, adapted = f"{images}/task-01", tmp_path / "adapted"
    assert metatrain("adapt", tmp_path / "run", support, "--out", adapted) == 0
    assert metatrain("generate", adapted, "-n", 2, "--out", tmp_path / "sheet.png") == 0
    assert metatrain("export", adapted, "--out", tmp_path / "lora", "--format", "kohya") == 0
    loading = pipeline_of(name)
    loading.load_lora_weights(str(tmp_path / "lora"), weight_name=LORA)
    network = api.load(f"{adapted}/adapted.safetensors").generator().network
    torch.testing.assert_close(*outputs(network, loading.unet), atol=1e-5, rtol=0)
