"""Texts embedded once by the frozen encoders of a pipeline, so that training needs none of them."""

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.generators.diffusers_import import diffusers_class
from metatrain.generators.frozen_folder import check_numbers
from metatrain.storage.files import is_local, read_file

# Parts that read a text, by the class of the pipeline, with their classes in transformers.
_FIRST = {"tokenizer": "CLIPTokenizer", "text_encoder": "CLIPTextModel"}
_PIPELINES = {
    "StableDiffusionPipeline": _FIRST,
    "StableDiffusionXLPipeline": {
        **_FIRST,
        "tokenizer_2": "CLIPTokenizer",
        "text_encoder_2": "CLIPTextModelWithProjection",
    },
}
# Parts that a pipeline is made without.
_ABSENT = {
    "StableDiffusionPipeline": ("vae", "unet", "scheduler", "safety_checker", "feature_extractor"),
    "StableDiffusionXLPipeline": ("vae", "unet", "scheduler"),
}


@torch.no_grad()
def embed_text(folder: str, text: str, negative: str = "") -> dict[str, Tensor]:
    """Embed a text and what stands for no text, as the pipeline in a folder does.

    Args:
        folder: of the whole pipeline, on this machine.
        text: the text that all examples are made from.
        negative: the text that guidance leads away from.

    Returns:
        `states` [2, L, D] and `pooled` [2, P], in row 0 of the text and in row 1 of the negative.

    Raises:
        UserError: when the folder holds no pipeline whose texts are known.
    """
    name = _pipeline_name(folder)
    parts = {part: _part(kind, folder, part) for part, kind in _PIPELINES[name].items()}
    kind = diffusers_class(name)
    if name == "StableDiffusionPipeline":
        pipeline = kind(**parts, **dict.fromkeys(_ABSENT[name]), requires_safety_checker=False)
        states = pipeline.encode_prompt(text, "cpu", 1, True, negative_prompt=negative)
        return {"states": torch.cat(states).contiguous(), "pooled": torch.zeros(2, 0)}
    pipeline = kind(**parts, **dict.fromkeys(_ABSENT[name]))
    options = {"device": "cpu", "do_classifier_free_guidance": True}
    # Of no text at all, SDXL's pipeline embeds zeros.
    encoded = pipeline.encode_prompt(text, negative_prompt=negative or None, **options)
    return {
        "states": torch.cat(encoded[:2]).contiguous(),
        "pooled": torch.cat(encoded[2:]).contiguous(),
    }


def _pipeline_name(folder: str) -> str:
    if not is_local(folder):
        raise UserError(f"{folder} is not on this machine; fetch the pipeline's folder first.")
    try:
        name = json.loads(read_file(f"{folder}/model_index.json"))["_class_name"]
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{folder}/model_index.json names no pipeline; fetch it again.") from error
    if name not in _PIPELINES:
        raise UserError(
            f"{folder} is a {name}, and texts are embedded as {' and '.join(_PIPELINES)} do; leave "
            f"generator.text out to train without a text."
        )
    return name


def _part(kind: str, folder: str, name: str) -> Any:
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(
            "texts need a package that is not installed; pip install 'metatrain[backbones]'."
        ) from error
    options = {"local_files_only": True}
    if name.startswith("text_encoder"):
        options["use_safetensors"] = True
    try:
        if name.startswith("text_encoder"):
            check_numbers(json.loads(read_file(f"{folder}/{name}/config.json")))
        part = getattr(transformers, kind).from_pretrained(str(Path(folder) / name), **options)
        check_numbers(getattr(part, "model_max_length", 0))  # texts are filled up to it
        return part
    except Exception as error:  # files of others may fail in any way
        raise UserError(
            f"{folder}/{name} cannot be used: {reason_of(error)}; it needs its configuration, and "
            f"weights in safetensors."
        ) from error
