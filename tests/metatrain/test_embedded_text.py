"""Texts embedded once, against the pipeline that they come from."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_models import metatrain
from tiny_backbones import model_of, overrides_of, rewritten, write_pipeline
from tiny_texts import encoder, t5_encoder, t5_tokenizer, tokenizer
from transformers import CLIPTextModel, CLIPTextModelWithProjection

import metatrain as api
from metatrain.base.errors import UserError
from metatrain.config import load_config, with_values
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.model.build import build_generator

SD3 = "SD3Transformer2DModel"


@pytest.fixture
def pipeline(tmp_path):
    parts = {
        "text_encoder": encoder(CLIPTextModel, 0),
        "tokenizer": tokenizer(),
        "unet": model_of("UNet2DConditionModel"),
        "scheduler": diffusers.DDIMScheduler(),
        **dict.fromkeys(("vae", "safety_checker", "feature_extractor")),
    }
    whole = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    whole.save_pretrained(tmp_path / "sd")
    return whole, tmp_path / "sd"


def test_a_text_is_embedded_as_its_pipeline_does(pipeline, tmp_path):
    whole, folder = pipeline
    out = tmp_path / "text.safetensors"
    words = ["embed-text", folder, "a photo of sks", "--negative", "ugly", "--out", out]
    assert metatrain(*words) == 0
    expected = whole.encode_prompt("a photo of sks", "cpu", 1, True, negative_prompt="ugly")
    states = load_file(out)["states"]
    torch.testing.assert_close(states, torch.cat(expected))
    assert not torch.equal(*states)
    written = write_pipeline(tmp_path / "backbone", "UNet2DConditionModel")
    text = f"generator.text.path={out}"
    config = load_config(None, overrides_of(written, "UNet2DConditionModel", text))
    assert torch.equal(build_generator(config).network.texts.states, states)


@pytest.mark.parametrize("zeros", [True, False])
def test_sdxl_has_two_encoders_and_a_pooled_text(tmp_path, zeros):
    parts = {
        "text_encoder": encoder(CLIPTextModel, 0),
        "text_encoder_2": encoder(CLIPTextModelWithProjection, 1),
        "tokenizer": tokenizer(),
        "tokenizer_2": tokenizer(),
        "unet": model_of("UNet2DConditionModel"),
        "scheduler": diffusers.DDIMScheduler(),
        "vae": None,
    }
    whole = diffusers.StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=zeros)
    whole.save_pretrained(tmp_path / "sdxl")
    out = tmp_path / "text.safetensors"
    assert metatrain("embed-text", tmp_path / "sdxl", "a photo of sks", "--out", out) == 0
    states, negative, pooled, none = whole.encode_prompt("a photo of sks", device="cpu")
    tensors = load_file(out)
    torch.testing.assert_close(tensors["states"], torch.cat([states, negative]))
    torch.testing.assert_close(tensors["pooled"], torch.cat([pooled, none]))
    assert bool(tensors["states"][1].any()) is not zeros


def third(folder, t5=True):
    """A pipeline of Stable Diffusion 3, with its T5 or without."""
    parts = {
        "text_encoder": encoder(CLIPTextModelWithProjection, 0),
        "text_encoder_2": encoder(CLIPTextModelWithProjection, 1),
        "text_encoder_3": t5_encoder(2, 20) if t5 else None,
        "tokenizer": tokenizer(),
        "tokenizer_2": tokenizer(),
        "tokenizer_3": t5_tokenizer() if t5 else None,
        "transformer": model_of(SD3, joint_attention_dim=20, pooled_projection_dim=16),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": None,
    }
    whole = diffusers.StableDiffusion3Pipeline(**parts)
    whole.save_pretrained(folder)
    return whole


@pytest.mark.parametrize("t5", [True, False], ids=["t5", "no-t5"])
def test_stable_diffusion_3_has_three_encoders(tmp_path, t5):
    whole, out = third(tmp_path / "sd3", t5), tmp_path / "text.safetensors"
    words = ["embed-text", tmp_path / "sd3", "a photo of sks", "--negative", "ugly"]
    assert metatrain(*words, "--out", out) == 0
    asked = {"prompt_2": None, "prompt_3": None, "negative_prompt": "ugly", "device": "cpu"}
    states, negative, pooled, none = whole.encode_prompt("a photo of sks", **asked)
    tensors = load_file(out)
    assert tensors["states"].shape == (2, 77 + 256, 20)
    torch.testing.assert_close(tensors["states"], torch.cat([states, negative]), atol=1e-5, rtol=0)
    torch.testing.assert_close(tensors["pooled"], torch.cat([pooled, none]), atol=1e-5, rtol=0)
    assert bool(tensors["states"][:, 77:].any()) == t5
    assert not torch.equal(*tensors["states"]) and not torch.equal(*tensors["pooled"])
    changes = {"joint_attention_dim": 20, "pooled_projection_dim": 16}
    folder = write_pipeline(tmp_path / "backbone", SD3, **changes)
    config = load_config(None, overrides_of(folder, SD3, f"generator.text.path={out}"))
    network, x, times = build_generator(config).network, torch.randn(1, 1, 8, 8), torch.ones(1)
    with torch.no_grad():
        expected = network.model(x, states, pooled, times).sample
        predicted = network.predict(x, times, torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=0)


def flux(folder):
    parts = {
        "text_encoder": encoder(CLIPTextModel, 0),
        "text_encoder_2": t5_encoder(1),
        "tokenizer": tokenizer(),
        "tokenizer_2": t5_tokenizer(),
        "transformer": model_of("FluxTransformer2DModel"),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": None,
    }
    whole = diffusers.FluxPipeline(**parts)
    whole.save_pretrained(folder)
    return whole


def test_flux_has_the_states_of_t5_and_the_pooled_text_of_clip(tmp_path):
    whole, out = flux(tmp_path / "flux"), tmp_path / "text.safetensors"
    words = ["embed-text", tmp_path / "flux", "a photo of sks", "--tokens", 32, "--out", out]
    assert metatrain(*words) == 0
    texts = [whole.encode_prompt(t, max_sequence_length=32) for t in ("a photo of sks", "")]
    tensors = load_file(out)
    for name, expected in (("states", [t[0] for t in texts]), ("pooled", [t[1] for t in texts])):
        torch.testing.assert_close(tensors[name], torch.cat(expected), atol=1e-5, rtol=0)
        assert not torch.equal(*tensors[name])
    assert tensors["states"].shape[1] == 32


@pytest.mark.parametrize("tokens", [0, 513])
def test_a_number_of_tokens_that_t5_does_not_read_is_a_sentence(tmp_path, capsys, tokens):
    flux(tmp_path / "flux")
    words = ["embed-text", tmp_path / "flux", "a", "--tokens", tokens, "--out", tmp_path / "o"]
    assert metatrain(*words) == 1
    assert f"tokens is {tokens}, the number of those that the T5 of a" in capsys.readouterr().err


def test_tokens_of_a_pipeline_without_t5_are_a_sentence(pipeline, tmp_path, capsys):
    words = ["embed-text", pipeline[1], "a photo", "--tokens", 9, "--out", tmp_path / "o"]
    assert metatrain(*words) == 1
    assert "is a StableDiffusionPipeline; correct it, or leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda f: rewritten(f / "transformer" / "config.json", _class_name="UNet2DModel"),
            "transformer is no SD3Transformer2DModel; fetch the pipeline again",
        ),
        (
            lambda f: rewritten(f / "transformer" / "config.json", num_layers=10**6),
            "cannot be used: it has a number above 65,536",
        ),
    ],
    ids=["class", "number"],
)
def test_parts_of_stable_diffusion_3_are_checked(tmp_path, capsys, spoil, sentence):
    third(tmp_path / "sd3", t5=False)
    spoil(tmp_path / "sd3")
    words = ["embed-text", tmp_path / "sd3", "a photo", "--out", tmp_path / "text.safetensors"]
    assert metatrain(*words) == 1
    assert sentence in capsys.readouterr().err


@pytest.fixture
def captioned(pipeline, tmp_path):
    """A data set with captions, their embedded texts, and a configuration of both."""
    noise = np.random.default_rng(0)
    for task in range(6):
        for i in range(6):
            folder = tmp_path / "images" / f"t{task}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            if i != 5:
                (folder / f"{i}.txt").write_text(f"in {'abc'[i % 3]}")
    data, out = tmp_path / "data", tmp_path / "text.safetensors"
    sizes = ("--size", 8, "--condition", "text")
    assert metatrain("pack", tmp_path / "images", data, *sizes) == 0
    words = ["embed-text", pipeline[1], "a photo of sks, {}", "--negative", "ugly"]
    assert metatrain(*words, "--captions", data, "--out", out) == 0
    backbone = write_pipeline(tmp_path / "backbone", "UNet2DConditionModel")
    place = (f"data.path={data}", "data.shots=3", "data.queries=2", f"run.dir={tmp_path}")
    texts = (f"generator.text.path={out}", "generator.captions=text")
    steps = ("meta.steps=2", "meta.warmup=0", "inner.steps=2", "adapt.steps=2", "learner.name=maml")
    overrides = overrides_of(backbone, "UNet2DConditionModel", *place, *texts, *steps)
    return pipeline[0], load_config(None, overrides)


def test_every_image_is_made_from_its_caption(captioned):
    whole, config = captioned
    assert config.data.conditions["text"].name == "text"
    network, captions = build_generator(config).network, ("in c", "", "in a")
    rows = network.conditions({"text": captions}, torch.zeros(3))["text_rows"]
    expected = [
        whole.encode_prompt(f"a photo of sks{text}", "cpu", 1, False)[0]
        for text in (", in c", "", ", in a")
    ]
    states = network.texts(rows, torch.float32).states
    torch.testing.assert_close(states, torch.cat(expected), atol=2e-3, rtol=2e-3)
    x, times = torch.randn(3, 1, 8, 8), torch.tensor([5, 40, 40])
    with torch.no_grad():
        theirs = network.model(x, times, states).sample
        torch.testing.assert_close(network.predict(x, times, rows), theirs)


def test_a_caption_that_was_not_embedded_is_a_sentence(captioned):
    network = build_generator(captioned[1]).network
    with pytest.raises(UserError, match=r"caption 'in d' is not among the 3 that generator\.text"):
        network.conditions({"text": ("in d",)}, torch.zeros(1))


@pytest.mark.long
def test_a_run_sees_captions_and_samples_from_them(captioned):
    model = api.train(captioned[1], device="cpu")
    images = torch.rand(3, 1, 8, 8) * 2 - 1
    plain, adapted = model.adapt(images), model.adapt(images, given={"text": "in b"})
    other = model.adapt(images, given={"text": ["in a", "in b", "in c"]})
    samples = [m.sample(2, seed=1) for m in (plain, adapted, other)]
    assert not torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[1], samples[2])
    again = adapted.sample(2, seed=1, given={"text": "in b"})
    assert torch.equal(samples[1], again)
    assert not torch.equal(again, adapted.sample(2, seed=1, given={"text": "in c"}))


def test_captions_missing_where_the_backbone_needs_them_are_a_sentence(captioned, tmp_path):
    config = captioned[1]
    without_text = with_values(config, {"generator.text": None})
    with pytest.raises(UserError, match=r"generator\.captions is set, and generator\.text is not"):
        build_generator(without_text)
    data = tmp_path / "plain"
    assert metatrain("pack", tmp_path / "images", data, "--size", 8) == 0
    without_captions = with_values(config, {"data.path": str(data)})
    with pytest.raises(UserError, match=r"text names no condition in .*; pack the data"):
        api.train(without_captions, device="cpu")


def test_dropped_captions_see_the_negative(captioned):
    config = with_values(captioned[1], {"objective.condition_dropout": 0.5})
    generator = build_generator(config)
    support = Examples(torch.zeros(64, 1, 8, 8), {"text": ("in a",) * 64})
    batch = Episode("task", support, support, 3).support_batch()
    *_, rows = generator.prepare(batch)
    assert set(rows.tolist()) == {1, 2}
    *_, rows = generator.eval().prepare(batch)
    assert set(rows.tolist()) == {2}


@pytest.mark.parametrize(
    ("text", "further", "sentence"),
    [
        ("a photo of sks, {}", (), "captions stand in the place of {} in the text"),
        ("a photo", ("--captions", "data"), "captions stand in the place of {} in the text"),
        ("a {}", ("--captions", "data", "--column", "x"), "has no texts named 'x', only text"),
    ],
)
def test_captions_and_their_place_belong_together(
    captioned, tmp_path, capsys, text, further, sentence
):
    further = [tmp_path / word if word == "data" else word for word in further]
    words = ["embed-text", tmp_path / "sd", text, *further, "--out", tmp_path / "o.safetensors"]
    assert metatrain(*words) == 1
    assert sentence in capsys.readouterr().err


def no_safetensors(folder):
    (folder / "text_encoder" / "model.safetensors").unlink()
    (folder / "text_encoder" / "pytorch_model.bin").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "model_index.json").unlink(), "there is nothing at "),
        (lambda f: (f / "model_index.json").write_text("{}"), "names no pipeline"),
        (
            lambda f: (f / "model_index.json").write_text('{"_class_name": "Magic"}'),
            "is a Magic, and texts are embedded as StableDiffusionPipeline",
        ),
        (
            lambda f: (f / "model_index.json").write_text('{"_class_name": ["Magic"]}'),
            "is a ['Magic'], and texts are embedded as StableDiffusionPipeline",
        ),
        (no_safetensors, "text_encoder cannot be used: "),
        (
            lambda f: rewritten(f / "text_encoder" / "config.json", num_hidden_layers=10**7),
            "text_encoder cannot be used: it has a number above 65,536",
        ),
        (
            lambda f: rewritten(f / "tokenizer" / "tokenizer_config.json", model_max_length=10**9),
            "tokenizer cannot be used: it has a number above 65,536",
        ),
    ],
)
def test_folders_without_what_reads_a_text_are_a_sentence(
    pipeline, tmp_path, capsys, spoil, sentence
):
    spoil(pipeline[1])
    out = tmp_path / "text.safetensors"
    assert metatrain("embed-text", pipeline[1], "a photo", "--out", out) == 1
    assert sentence in capsys.readouterr().err
    assert not out.exists()
