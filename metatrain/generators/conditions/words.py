"""An encoder of texts by a frozen table of word vectors."""

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Location
from metatrain.base.text import reason_of
from metatrain.generators.conditions.frozen_text import (
    REMEMBERED,
    FrozenText,
    FrozenTextConfig,
    Opened,
)
from metatrain.generators.frozen import Frozen, read_pinned
from metatrain.generators.frozen_folder import Hash
from metatrain.storage.files import read_file

# The package of this name has a table of 32,000 words, and these are its files.
_PACKAGE = "wordllama"
_TABLE = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"


class WordsConfig(FrozenTextConfig, Frozen):
    """A frozen table of word vectors, with the tokenizer that numbers its rows."""

    name: Literal["words"] = "words"
    path: Location = Field(
        default=_PACKAGE,
        description="A safetensors file of one table [words, channels]; wordllama: that package's.",
    )
    tokenizer: Location | None = Field(
        default=None,
        description="Its tokenizer, of the package tokenizers; null: tokenizer.json beside it.",
    )
    length: int = Field(default=32, ge=1, le=4096, description="Words that are read.")
    sha256: tuple[Hash, Hash] | None = Field(
        default=None, description="Hashes of both files; null is filled in when a run begins."
    )

    @override
    def pinned(self) -> Self:
        hashes = self.sha256 or tuple(
            hashlib.sha256(read_file(url)).hexdigest() for url in self.files()
        )
        return self.model_copy(update={"sha256": hashes})

    def files(self) -> tuple[str, str]:
        """Return the places of the table and of its tokenizer.

        Raises:
            UserError: when the package is not installed.
        """
        if self.path != _PACKAGE:
            beside = f"{self.path.rpartition('/')[0] or '.'}/tokenizer.json"
            return self.path, self.tokenizer or beside
        # Found and not imported: its files are all that is of use here.
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or not spec.origin:
            raise UserError(
                "the words of wordllama need a package that is not installed; pip install "
                "'metatrain[words]', or name a table by path."
            )
        folder = Path(spec.origin).parent
        return str(folder / _TABLE), str(folder / _TOKENIZER)


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
