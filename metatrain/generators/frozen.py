"""Frozen weights: files of tensors that a network uses and nothing trains.

Their sections are read without torch, which is imported where tensors are.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import Field
from safetensors import SafetensorError
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Location, Section
from metatrain.storage.files import read_file

if TYPE_CHECKING:
    from torch import Tensor, nn

S = TypeVar("S", bound=Section)

# Contents of files that models have inside, by their sha256: such a file is not looked for.
_INSIDE: dict[str, bytes] = {}


class Frozen(Section):
    """Files of others, known by their hashes.

    What they hold is no part of theta, so that no checkpoint and no model file has it: those name
    the place and the hashes.

    Attributes:
        training_only: whether a trained model does without them, wherever they are.
    """

    training_only: ClassVar[bool] = False

    path: Location = Field(description="A path or any fsspec URL.")
    sha256: Any = None

    @abstractmethod
    def pinned(self) -> Self:
        """Fill in the hashes, so that no other file can stand in.

        Raises:
            UserError: when a file cannot be read.
        """


class FrozenWeights(Frozen):
    """A safetensors file of weights that stay as they are."""

    path: Location = Field(description="A safetensors file: a path or any fsspec URL.")
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="Hash of the file; null is filled in when a run begins.",
    )

    @override
    def pinned(self) -> Self:
        sha256 = self.sha256 or hashlib.sha256(read_file(self.path)).hexdigest()
        return self.model_copy(update={"sha256": sha256})

    def tensors(self) -> "dict[str, Tensor]":
        """Read the tensors of the file.

        Raises:
            UserError: when it cannot be read, or is not the one that was pinned.
        """
        return parse_tensors(read_pinned(self.path, self.sha256), self.path)


def load_frozen(module: "nn.Module", weights: FrozenWeights) -> None:
    """Set every parameter and buffer of `module` from a file, and freeze them.

    On the meta device there is nothing to set, and the file is not read.

    Raises:
        UserError: when the file cannot be read, is not the one that was pinned, or its tensors are
            not those of `module`.
    """
    module.requires_grad_(False)
    if not on_meta(module):
        fill(module, weights.tensors(), weights.path)


def on_meta(module: "nn.Module") -> bool:
    """Tell whether a module has tensors without values."""
    return any(tensor.is_meta for tensor in module.state_dict().values())


def fill(module: "nn.Module", tensors: "Mapping[str, Tensor]", path: str) -> None:
    """Set every parameter and buffer of `module` from tensors, which messages name by `path`.

    Raises:
        UserError: when names or shapes differ.
    """
    import torch

    expected = module.state_dict()
    _check(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
        path,
    )
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])


def keep_inside(contents: Mapping[str, bytes]) -> None:
    """Let what is built from here on find frozen files by their sha256, wherever they lie."""
    _INSIDE.update(contents)


def is_inside(sha256: object) -> bool:
    """Tell whether a model has brought the file of this hash."""
    return sha256 in _INSIDE if isinstance(sha256, str) else False


def small_contents(section: Section, most: int) -> dict[str, bytes]:
    """Read the pinned files of weights in `section`, by sha256; none where they are larger.

    Args:
        section: the section, whose folders of diffusers are left out.
        most: bytes of all files together.

    Raises:
        UserError: when a file cannot be read, or has another hash.
    """
    contents = {str(w.sha256): read_pinned(w.path, w.sha256) for w in _weights_in(section)}
    return contents if sum(map(len, contents.values())) <= most else {}


def _weights_in(section: Section) -> Iterator[FrozenWeights]:
    if isinstance(section, FrozenWeights) and section.sha256:
        yield section
    for name in type(section).model_fields:
        if isinstance(part := getattr(section, name), Section):
            yield from _weights_in(part)


def read_pinned(url: str, sha256: str | None) -> bytes:
    """Read a file whose hash is known, or with None any.

    Raises:
        UserError: when it cannot be read, or has another hash.
    """
    if sha256 is not None and sha256 in _INSIDE:
        return _INSIDE[sha256]
    data = read_file(url)
    actual = hashlib.sha256(data).hexdigest()
    if sha256 not in (None, actual):
        raise UserError(
            f"{url} has sha256 {actual}, and {sha256} was trained with; name the file that was "
            f"used."
        )
    return data


def parse_tensors(data: bytes, url: str) -> "dict[str, Tensor]":
    """Parse the bytes of a safetensors file, which messages name by `url`.

    Raises:
        UserError: when they are none.
    """
    import torch
    from safetensors.torch import load

    try:
        with torch.device("cpu"):  # where tensors without values would else be of another
            return load(data)
    except SafetensorError as error:
        raise UserError(f"{url} is no safetensors file, or damaged: {error}.") from error


def pinned(section: S) -> S:
    """Fill in the hashes of all frozen files in `section`, so that no other file can stand in.

    Raises:
        UserError: when one of the files cannot be read.
    """
    parts = {name: getattr(section, name) for name in type(section).model_fields}
    held = {name: _pinned(part) for name, part in parts.items()}
    changed = {name: part for name, part in held.items() if part is not parts[name]}
    section = section.model_copy(update=changed) if changed else section
    return section.pinned() if isinstance(section, Frozen) else section


def _pinned(part: Any) -> Any:
    """Pin a section, or the sections of a dictionary."""
    if isinstance(part, dict) and any(isinstance(value, Section) for value in part.values()):
        return {key: _pinned(value) for key, value in part.items()}
    return pinned(part) if isinstance(part, Section) else part


def content_hash(section: Section) -> str:
    """Hash the values in `section`, and of its frozen files the contents, not the places.

    A section that is one file has the sha256 of that file.

    Raises:
        UserError: when a file cannot be read.
    """
    held = pinned(section)
    if isinstance(held, FrozenWeights):
        return str(held.sha256)
    values = _without_places(held.model_dump(mode="json"))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _without_places(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    places = ("path", "subfolder") if "sha256" in values else ()
    return {key: _without_places(value) for key, value in values.items() if key not in places}


def _check(
    there: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], path: str
) -> None:
    missing, unknown = sorted(expected.keys() - there), sorted(there.keys() - expected)
    other = sorted(n for n in there.keys() & expected if there[n] != expected[n])
    for names, fault in ((missing, "lacks"), (unknown, "has an unknown"), (other, "has another")):
        if names:
            raise UserError(
                f"{path} {fault} tensor {names[0]} (and {len(names) - 1} more); give the weights "
                f"of the network that is configured."
            )
