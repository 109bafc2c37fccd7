"""Pipelines of diffusers as encoders of texts, without their other parts."""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.text import printable, reason_of
from metatrain.generators.diffusers_import import constructed, diffusers_class
from metatrain.generators.frozen_folder import FrozenFolder, check_numbers
from metatrain.storage.files import is_local, read_file

# Maps a text, and a negative unless it is None, to states [1 or 2, L, D] and pooled [1 or 2, P].
TextEncoder = Callable[[str, str | None], tuple[Tensor, Tensor]]
# The longest text of T5 that the pipelines take.
_MOST_TOKENS = 512


class _Pipeline(NamedTuple):
    """A class of pipelines.

    Attributes:
        parts: those that read a text, with their classes in transformers.
        absent: those that it is made without.
        encode: maps it, a text, a negative or None, and options to states and pooled.
        options: of its construction.
        settings: names of further options, of which its index has the values.
    """

    parts: Mapping[str, str]
    absent: tuple[str, ...]
    encode: Callable[..., tuple[Tensor, Tensor]]
    options: Mapping[str, Any] = {}
    settings: tuple[str, ...] = ()

    @property
    def t5(self) -> str | None:
        """The name of the part that is a T5."""
        return next((name for name, kind in self.parts.items() if kind == "T5EncoderModel"), None)


def encoder_of(folder: str, tokens: int | None = None) -> TextEncoder:
    """Return what embeds texts as a pipeline does.

    Args:
        folder: of the whole pipeline, on this machine.
        tokens: how many T5 reads, where there is one; by default as many as the pipeline does.

    Raises:
        UserError: when the folder holds no pipeline whose texts are known, or `tokens` has no
            meaning for it.
    """
    index = _index(folder)
    name = index["_class_name"]
    kind = _PIPELINES[name]
    if tokens is not None and (kind.t5 is None or not 1 <= tokens <= _MOST_TOKENS):
        raise UserError(
            f"tokens is {tokens}, the number of those that the T5 of a "
            f"StableDiffusion3Pipeline or FluxPipeline reads, 1 to {_MOST_TOKENS}, and {folder} is "
            f"a {name}; correct it, or leave it out."
        )
    parts = {part: _part(of, folder, part) for part, of in kind.parts.items() if _has(index, part)}
    others = dict.fromkeys((*kind.absent, *(kind.parts.keys() - parts.keys())))
    if kind.t5 in others:
        parts["transformer"] = _without_values(FrozenFolder(path=folder, subfolder="transformer"))
    settings = {setting: index[setting] for setting in kind.settings if setting in index}
    pipeline = diffusers_class(name)(**others | parts, **kind.options, **settings)
    options = {} if tokens is None else {"max_sequence_length": tokens}
    return lambda text, negative: kind.encode(pipeline, text, negative, **options)


def _has(index: Mapping[str, Any], part: str) -> bool:
    """Tell whether a pipeline has a part; Stable Diffusion 3 is used without its T5, too."""
    optional = part.removeprefix("tokenizer").removeprefix("text_encoder") == "_3"
    return not (optional and index.get(part) in (None, [None, None]))


def _without_values(folder: FrozenFolder) -> Any:
    """Make a transformer without values, which tells the width of the zeros in the place of T5's.

    Raises:
        UserError: as `FrozenFolder.values`, and when it cannot be built.
    """
    values = folder.values()
    if values["_class_name"] != "SD3Transformer2DModel":
        raise UserError(f"{folder.url} is no SD3Transformer2DModel; fetch the pipeline again.")
    with torch.device("meta"):
        return constructed(values, folder.url)


def _first(pipeline: Any, text: str, negative: str | None) -> tuple[Tensor, Tensor]:
    guided = negative is not None
    states = pipeline.encode_prompt(text, "cpu", 1, guided, negative_prompt=negative)
    rows = _rows(states)
    return rows, torch.zeros(len(rows), 0)


def _xl(pipeline: Any, text: str, negative: str | None) -> tuple[Tensor, Tensor]:
    # Of no text at all, SDXL's pipeline embeds zeros, unless its index says otherwise.
    encoded = pipeline.encode_prompt(
        text,
        negative_prompt=negative or None,
        device="cpu",
        do_classifier_free_guidance=negative is not None,
    )
    return _rows(encoded[:2]), _rows(encoded[2:])


def _third(pipeline: Any, text: str, negative: str | None, **options: Any) -> tuple[Tensor, Tensor]:
    encoded = pipeline.encode_prompt(
        text,
        None,
        None,
        negative_prompt=negative,
        device="cpu",
        do_classifier_free_guidance=negative is not None,
        **options,
    )
    return _rows(encoded[:2]), _rows(encoded[2:])


def _flux(pipeline: Any, text: str, negative: str | None, **options: Any) -> tuple[Tensor, Tensor]:
    texts = [text for text in (text, negative) if text is not None]
    states, pooled, _ = pipeline.encode_prompt(texts, device="cpu", **options)
    return states.contiguous(), pooled.contiguous()


def _rows(parts: tuple[Tensor | None, ...]) -> Tensor:
    return torch.cat([part for part in parts if part is not None]).contiguous()


_CLIP, _T5 = "CLIPTokenizer", "T5Tokenizer"
_ONE = {"tokenizer": _CLIP, "text_encoder": "CLIPTextModel"}
_PIPELINES = {
    "StableDiffusionPipeline": _Pipeline(
        _ONE,
        ("vae", "unet", "scheduler", "safety_checker", "feature_extractor"),
        _first,
        {"requires_safety_checker": False},
    ),
    "StableDiffusionXLPipeline": _Pipeline(
        {**_ONE, "tokenizer_2": _CLIP, "text_encoder_2": "CLIPTextModelWithProjection"},
        ("vae", "unet", "scheduler"),
        _xl,
        settings=("force_zeros_for_empty_prompt",),
    ),
    "StableDiffusion3Pipeline": _Pipeline(
        {
            **{"tokenizer": _CLIP, "text_encoder": "CLIPTextModelWithProjection"},
            **{"tokenizer_2": _CLIP, "text_encoder_2": "CLIPTextModelWithProjection"},
            **{"tokenizer_3": _T5, "text_encoder_3": "T5EncoderModel"},
        },
        ("vae", "transformer", "scheduler"),
        _third,
    ),
    "FluxPipeline": _Pipeline(
        {**_ONE, "tokenizer_2": _T5, "text_encoder_2": "T5EncoderModel"},
        ("vae", "transformer", "scheduler"),
        _flux,
    ),
}


def _index(folder: str) -> dict[str, Any]:
    """Read which class a pipeline is of, and its parts."""
    if not is_local(folder):
        raise UserError(f"{folder} is not on this machine; fetch the pipeline's folder first.")
    try:
        index = json.loads(read_file(f"{folder}/model_index.json"))
        name = index["_class_name"]
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{folder}/model_index.json names no pipeline; fetch it again.") from error
    if not isinstance(name, str) or name not in _PIPELINES:
        *others, last = _PIPELINES
        raise UserError(
            f"{folder} is a {printable(str(name))}, and texts are embedded as "
            f"{', '.join(others)} and {last} do; leave generator.text out to train without a text."
        )
    return index


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
