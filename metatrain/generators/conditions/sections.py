"""Sections of the encoders of conditions, read without torch."""

import hashlib
import importlib.util
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Location, Section
from metatrain.generators.frozen import Frozen
from metatrain.generators.frozen_folder import FileName, Hash
from metatrain.storage.files import read_file, sizes_under


class EncoderConfig(Section):
    """Settings that every encoder has.

    Attributes:
        kind: the kind of condition that it encodes, a name in `metatrain.data.conditions`.
    """

    kind: ClassVar[str]

    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Fraction of examples trained without the condition."
    )


class TextEncoderConfig(EncoderConfig):
    """A transformer over the bytes of a text."""

    kind = "text"

    name: Literal["text"] = "text"
    length: int = Field(
        default=64, ge=1, le=4096, description="Bytes (UTF-8) that are read; the rest is not."
    )
    depth: int = Field(default=2, ge=0, le=64, description="Blocks.")
    heads: int = Field(default=4, ge=1, le=1024, description="Attention heads of a block.")


class AudioEncoderConfig(EncoderConfig):
    """Convolutions over a log-mel spectrogram."""

    kind = "audio"

    name: Literal["audio"] = "audio"
    width: int = Field(
        default=64, ge=8, le=4096, multiple_of=8, description="Channels between the convolutions."
    )


class FrozenTextConfig(EncoderConfig):
    """Settings that every frozen encoder of texts has: the most vectors of one."""

    kind = "text"

    length: int


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


# What a folder has of use: configurations, vocabularies, weights; never a pickle.
_ENDINGS = (".json", ".txt", ".model", ".safetensors")


class TransformersConfig(FrozenTextConfig, Frozen):
    """A text encoder of transformers with its tokenizer, both in one folder, frozen."""

    name: Literal["transformers"] = "transformers"
    path: Location = Field(description="A folder on this machine, as save_pretrained writes it.")
    length: int = Field(default=77, ge=1, le=4096, description="Tokens that are read.")
    sha256: dict[FileName, Hash] | None = Field(
        default=None, description="Hashes of its files; null is filled in when a run begins."
    )

    @override
    def pinned(self) -> Self:
        names = sorted(n for n in sizes_under(self.path) if "/" not in n and n.endswith(_ENDINGS))
        hashes = self.sha256 or {
            name: hashlib.sha256(read_file(f"{self.path}/{name}")).hexdigest() for name in names
        }
        return self.model_copy(update={"sha256": hashes})
