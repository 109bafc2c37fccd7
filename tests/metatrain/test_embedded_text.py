"""Texts embedded once, against the pipeline that they come from."""

import diffusers
import pytest
import torch
from safetensors.torch import load_file
from small_models import metatrain
from tiny_backbones import model_of, overrides_of, rewritten, write_pipeline
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from metatrain.config import load_config
from metatrain.model.build import build_generator

ENDS = ("<|startoftext|>", "<|endoftext|>")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *ENDS]


def encoder(kind, seed):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    ends = {"bos_token_id": len(VOCABULARY) - 2, "eos_token_id": len(VOCABULARY) - 1}
    more = {"num_attention_heads": 2, "vocab_size": len(VOCABULARY), "projection_dim": 8}
    return kind(CLIPTextConfig(**sizes, **ends, **more)).eval()


def tokenizer():
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    return CLIPTokenizer(vocab=ids, merges=[], model_max_length=77)


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
    assert torch.equal(build_generator(config).network.text_states, states)


def test_sdxl_has_two_encoders_and_a_pooled_text(tmp_path):
    parts = {
        "text_encoder": encoder(CLIPTextModel, 0),
        "text_encoder_2": encoder(CLIPTextModelWithProjection, 1),
        "tokenizer": tokenizer(),
        "tokenizer_2": tokenizer(),
        "unet": model_of("UNet2DConditionModel"),
        "scheduler": diffusers.DDIMScheduler(),
        "vae": None,
    }
    whole = diffusers.StableDiffusionXLPipeline(**parts)
    whole.save_pretrained(tmp_path / "sdxl")
    out = tmp_path / "text.safetensors"
    assert metatrain("embed-text", tmp_path / "sdxl", "a photo of sks", "--out", out) == 0
    states, negative, pooled, none = whole.encode_prompt("a photo of sks", device="cpu")
    tensors = load_file(out)
    torch.testing.assert_close(tensors["states"], torch.cat([states, negative]))
    torch.testing.assert_close(tensors["pooled"], torch.cat([pooled, none]))


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
