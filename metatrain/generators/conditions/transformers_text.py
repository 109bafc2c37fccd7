"""An encoder of texts by a frozen encoder of transformers, from its folder."""

import importlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.generators.conditions.frozen_text import (
    REMEMBERED,
    FrozenText,
    Opened,
)
from metatrain.generators.conditions.sections import TransformersConfig
from metatrain.generators.frozen import read_pinned
from metatrain.storage.files import is_local


@lru_cache(maxsize=2)
def opened_encoder(settings: str) -> Opened:
    """Return the width of the vectors, and what returns those of a text; read once a process."""
    config = TransformersConfig.model_validate_json(settings)
    if not is_local(config.path):
        raise UserError(f"{config.path} is not on this machine; fetch the folder first.")
    for name, sha256 in (config.sha256 or {}).items():
        read_pinned(f"{config.path}/{name}", sha256)
    # A generator may be built without values, which these weights need all the same.
    with torch.device("cpu"):
        tokenizer = _loaded("AutoTokenizer", config.path)
        model = _loaded("AutoModel", config.path, use_safetensors=True)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model = model.eval().requires_grad_(False)

    @lru_cache(maxsize=REMEMBERED)
    @torch.no_grad()
    def vectors(text: str) -> Tensor:
        with torch.device("cpu"):
            read = tokenizer(text, truncation=True, max_length=config.length, return_tensors="pt")
            return model(**read).last_hidden_state[0].float()

    return model.config.hidden_size, vectors


class TransformersText(FrozenText[TransformersConfig]):
    """The last hidden states of a text encoder such as CLIP's or T5's."""

    Config = TransformersConfig
    opened = staticmethod(opened_encoder)


def _loaded(kind: str, path: str, **options: Any) -> Any:
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(
            "text encoders of transformers need a package that is not installed; pip install "
            "'metatrain[backbones]'."
        ) from error
    options |= {"local_files_only": True, "trust_remote_code": False}
    try:
        return getattr(transformers, kind).from_pretrained(str(Path(path)), **options)
    except Exception as error:  # files of others may fail in any way
        raise UserError(
            f"{path} cannot be used as a text encoder: {reason_of(error)}; it needs its "
            f"configuration, its tokenizer, and weights in safetensors."
        ) from error
