"""Folders of models as diffusers writes them: a JSON configuration, and weights in safetensors."""

import hashlib
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, StringConstraints
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Location
from metatrain.generators.frozen import Frozen, parse_tensors, read_pinned
from metatrain.storage.files import MissingError, read_file, sizes_under

if TYPE_CHECKING:
    from torch import Tensor

# Endings of files that run code when they are read.
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
# Of sizes, layers and steps in a JSON file.
_LARGEST_NUMBER = 2**16
_WEIGHTS = "diffusion_pytorch_model"
# A file of weights, whole or one of several, perhaps of half precision.
_WEIGHT_FILE = re.compile(rf"{_WEIGHTS}(\.fp16)?(-\d{{5}}-of-\d{{5}})?(\.fp16)?\.safetensors")

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


def check_numbers(values: Any) -> None:
    """Compare all whole numbers in a configuration of others with the largest honest one.

    Tables of sines, schedules and layers are as long as it says, and no tensor bounds them.

    Raises:
        OverflowError: when one is larger.
    """
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            check_numbers(value)
    elif isinstance(values, int) and abs(values) > _LARGEST_NUMBER:
        raise OverflowError(f"it has a number above {_LARGEST_NUMBER:,}")


class FrozenFolder(Frozen):
    """A folder that diffusers or its users have written.

    Attributes:
        CONFIGURATION: the name of its JSON file.
    """

    CONFIGURATION: ClassVar[str] = "config.json"

    path: Location = Field(description="A folder of diffusers: a path or any fsspec URL.")
    subfolder: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$",
        description="Folder within it, where it is a whole pipeline.",
    )
    sha256: dict[FileName, Hash] | None = Field(
        default=None, description="Hashes of its files; null is filled in when a run begins."
    )

    @property
    def has_weights(self) -> bool:
        """Whether its weights are used."""
        return True

    @property
    def url(self) -> str:
        """The folder itself."""
        return f"{self.path.rstrip('/')}/{self.subfolder}".rstrip("/")

    @override
    def pinned(self) -> Self:
        files = [self.CONFIGURATION, *(self._weight_files() if self.has_weights else ())]
        hashes = self.sha256 or {name: self._hash_of(name) for name in files}
        return self.model_copy(update={"sha256": hashes})

    def values(self) -> dict[str, Any]:
        """Read the JSON file.

        Raises:
            UserError: when there is none, it is another than the one that was pinned, or no JSON.
        """
        url = f"{self.url}/{self.CONFIGURATION}"
        try:
            data = read_pinned(url, self._pin_of(self.CONFIGURATION))
        except MissingError as error:
            raise UserError(
                f"{self.url} is no folder of a diffusers model, because it has no "
                f"{self.CONFIGURATION}; name the folder, and its subfolder where it is a pipeline."
            ) from error
        try:
            values = json.loads(data)
            check_numbers(values)
        except OverflowError as error:
            raise UserError(f"{url} cannot be used: {error}; fetch it again.") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{url} is not JSON, or is damaged; fetch it again.") from error
        if not isinstance(values, dict) or not isinstance(values.get("_class_name"), str):
            raise UserError(f"{url} names no class (_class_name); give a folder of diffusers.")
        return values

    def tensors(self) -> "dict[str, Tensor]":
        """Read all weights.

        Raises:
            UserError: when there are none in safetensors, or others than those that were pinned.
        """
        names = [name for name in self.sha256 or () if name != self.CONFIGURATION]
        tensors: dict[str, Tensor] = {}
        for name in names or self._weight_files():
            url = f"{self.url}/{name}"
            tensors |= parse_tensors(read_pinned(url, self._pin_of(name)), url)
        return tensors

    def _pin_of(self, name: str) -> str | None:
        if self.sha256 is None:
            return None
        if name not in self.sha256:
            raise UserError(f"{self.url} is pinned without {name}; leave its sha256 out.")
        return self.sha256[name]

    def _hash_of(self, name: str) -> str:
        return hashlib.sha256(read_file(f"{self.url}/{name}")).hexdigest()

    def _weight_files(self) -> list[str]:
        """List the files of weights: one, or those that it was cut into."""
        names = sorted(name for name in sizes_under(self.url) if "/" not in name)
        weights = [name for name in names if _WEIGHT_FILE.fullmatch(name)]
        # A folder may hold the same weights twice, and those of full precision come first.
        full = [name for name in weights if ".fp16" not in name]
        if weights:
            return full or weights
        pickles = [name for name in names if name.endswith(PICKLES)]
        if pickles:
            raise UserError(
                f"{self.url}/{pickles[0]} is a pickle, which runs code when it is read; convert it "
                f"to {_WEIGHTS}.safetensors, as diffusers' save_pretrained does."
            )
        raise UserError(f"{self.url} has no {_WEIGHTS}.safetensors; fetch the weights, too.")
