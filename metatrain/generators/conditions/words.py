"""An encoder of texts by a frozen table of word vectors."""

import importlib.util
from functools import lru_cache
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.numpy import load
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.generators.conditions.frozen_text import (
    REMEMBERED,
    FrozenText,
    Opened,
)
from metatrain.generators.conditions.sections import WordsConfig
from metatrain.generators.frozen import read_pinned


@lru_cache(maxsize=4)
def opened_words(settings: str) -> Opened:
    """Return the width of the vectors, and what returns those of a text; read once a process."""
    config = WordsConfig.model_validate_json(settings)
    pins = config.sha256 or (None, None)
    contents = [read_pinned(*file) for file in zip(config.files(), pins, strict=True)]
    table = _table(contents[0], config.path)
    tokenizer = _tokenizer(contents[1], config.files()[1])
    if tokenizer.get_vocab_size() > len(table):
        raise UserError(
            f"{config.files()[1]} has {tokenizer.get_vocab_size():,} words, and the table of "
            f"{config.path} {len(table):,}; name the tokenizer of the table."
        )

    @lru_cache(maxsize=REMEMBERED)
    def vectors(text: str) -> Tensor:
        ids = tokenizer.encode(text, add_special_tokens=False).ids[: config.length]
        return torch.tensor(table[ids], dtype=torch.float32, device="cpu").view(-1, table.shape[1])

    return table.shape[1], vectors


class Words(FrozenText[WordsConfig]):
    """Word vectors: what texts mean was learned elsewhere, from far more of them."""

    Config = WordsConfig
    opened = staticmethod(opened_words)


def _table(data: bytes, url: str) -> Any:
    """Parse the one table of a safetensors file; an array, for devices to be no matter here."""
    try:
        tables = [*load(data).values()]
    except (SafetensorError, ValueError, TypeError) as error:
        raise UserError(f"{url} is no safetensors file, or damaged: {reason_of(error)}.") from error
    if len(tables) != 1 or tables[0].ndim != 2 or tables[0].dtype.kind != "f":
        raise UserError(f"{url} is no table of word vectors, one tensor [words, channels].")
    return tables[0]


def _tokenizer(data: bytes, url: str) -> Any:
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ImportError as error:
        raise UserError(
            "word vectors need a package that is not installed; pip install 'metatrain[words]'."
        ) from error
    try:
        return tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # it raises Exception itself
        raise UserError(f"{url} is no tokenizer: {reason_of(error)}.") from error
