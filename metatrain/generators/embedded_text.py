"""Texts embedded once by the frozen encoders of a pipeline, so that training needs none of them."""

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.base.text import reason_of
from metatrain.generators.diffusers_import import diffusers_class
from metatrain.generators.frozen_folder import check_numbers
from metatrain.generators.networks.backbone_texts import caption_key
from metatrain.storage.files import is_local, read_file

# Stands for the caption of an image in a text.
_PLACE = "{}"
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
def embed_text(
    folder: str, text: str, negative: str = "", captions: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Embed a text, what stands for no text, and the captions of images, as a pipeline does.

    Args:
        folder: of the whole pipeline, on this machine.
        text: the text that examples are made from, with {} in the place of their captions.
        negative: the text that guidance leads away from.
        captions: distinct captions, none of them empty.

    Returns:
        `states` [2 + N, L, D] and `pooled` [2 + N, P]: row 0 is of the text without a caption, row
        1 of the negative, and the rest of the N captions; in half precision where there are any,
        with their keys in `captions` [N, 32].

    Raises:
        UserError: when the folder holds no pipeline whose texts are known, or the text has no place
            for captions.
    """
    if bool(captions) != (_PLACE in text):
        raise UserError(
            f"captions stand in the place of {_PLACE} in the text, as in 'a photo of sks, "
            f"{_PLACE}'; give both, or neither."
        )
    encode = _encoder_of(folder)
    states, pooled = encode(text.replace(_PLACE, "").strip(" ,"), negative)
    if not captions:
        return {"states": states, "pooled": pooled}
    parts = [(states.half(), pooled.half())]
    for caption in tracked("embedding captions", captions, len(captions)):
        one, summary = encode(text.replace(_PLACE, caption), negative)
        parts.append((one[:1].half(), summary[:1].half()))
    keys = b"".join(map(caption_key, captions))
    return {
        "states": torch.cat([part[0] for part in parts]),
        "pooled": torch.cat([part[1] for part in parts]),
        "captions": torch.frombuffer(bytearray(keys), dtype=torch.uint8).view(-1, 32),
    }


def _encoder_of(folder: str) -> Callable[[str, str], tuple[Tensor, Tensor]]:
    """Return what embeds a text and a negative, as states [2, L, D] and pooled [2, P]."""
    name = _pipeline_name(folder)
    parts = {part: _part(kind, folder, part) for part, kind in _PIPELINES[name].items()}
    options = {"requires_safety_checker": False} if name == "StableDiffusionPipeline" else {}
    pipeline = diffusers_class(name)(**parts, **dict.fromkeys(_ABSENT[name]), **options)

    def first(text: str, negative: str) -> tuple[Tensor, Tensor]:
        states = pipeline.encode_prompt(text, "cpu", 1, True, negative_prompt=negative)
        return torch.cat(states).contiguous(), torch.zeros(2, 0)

    def xl(text: str, negative: str) -> tuple[Tensor, Tensor]:
        # Of no text at all, SDXL's pipeline embeds zeros.
        encoded = pipeline.encode_prompt(
            text, negative_prompt=negative or None, device="cpu", do_classifier_free_guidance=True
        )
        return torch.cat(encoded[:2]).contiguous(), torch.cat(encoded[2:]).contiguous()

    return first if name == "StableDiffusionPipeline" else xl


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
