"""Frozen weights: files of tensors that a network uses and nothing trains."""

import hashlib
from typing import TypeVar

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from metatrain.base.errors import UserError
from metatrain.base.section import Location, Section
from metatrain.storage.files import read_file

S = TypeVar("S", bound=Section)


class FrozenWeights(Section):
    """A safetensors file of weights that stay as they are.

    They are no part of theta, so that no checkpoint and no model file holds them: those name the
    file and its hash.
    """

    path: Location = Field(description="A safetensors file: a path or any fsspec URL.")
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="Hash of the file; null is filled in when a run begins.",
    )


def load_frozen(module: nn.Module, weights: FrozenWeights) -> None:
    """Set every parameter and buffer of `module` from a file, and freeze them.

    On the meta device there is nothing to set, and the file is not read.

    Raises:
        UserError: when the file cannot be read, is not the one that was pinned, or its tensors are
            not those of `module`.
    """
    module.requires_grad_(False)
    expected = module.state_dict()
    if any(tensor.is_meta for tensor in expected.values()):
        return
    data = read_file(weights.path)
    if weights.sha256 not in (None, _sha256(data)):
        raise UserError(
            f"{weights.path} has sha256 {_sha256(data)}, and {weights.sha256} was trained with; "
            f"name the file that was used."
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise UserError(f"{weights.path} is no safetensors file, or damaged: {error}.") from error
    _check(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
        weights.path,
    )
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])


def pinned(section: S) -> S:
    """Fill in the hashes of all frozen weights in `section`, so that no other file can stand in.

    Raises:
        UserError: when one of the files cannot be read.
    """
    if isinstance(section, FrozenWeights):
        sha256 = section.sha256 or _sha256(read_file(section.path))
        return section.model_copy(update={"sha256": sha256})
    parts = {name: getattr(section, name) for name in type(section).model_fields}
    changed = {name: pinned(part) for name, part in parts.items() if isinstance(part, Section)}
    return section.model_copy(update=changed) if changed else section


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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
