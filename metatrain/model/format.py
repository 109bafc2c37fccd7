"""The format of a model file: safetensors, with everything but the tensors in its metadata."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters, first_not_finite
from metatrain.base.text import reason_of
from metatrain.config import Config, parse_config
from metatrain.data.config import DataConfig
from metatrain.data.episode_config import MOST_SUPPORT
from metatrain.data.examples import Condition, Examples
from metatrain.data.pictures import from_levels, to_levels
from metatrain.model.calibration import Calibration
from metatrain.model.parameter_types import read_parameters, stored_parameters
from metatrain.model.reference import Reference
from metatrain.model.skeleton import skeleton
from metatrain.storage.tensors import file_bytes, read_metadata

# Raised when a change makes older files unreadable.
FORMAT = "metatrain-1"

_BUFFERS, _CALIBRATION = "buffers", "calibration"
SUPPORT, _GIVEN = "support", "support/given"
_REFERENCE = "adapted_from"
# Before the sha256 of each frozen file inside.
_FROZEN = "frozen"

_MOST_STEPS = 2**63

_TEXTS = TypeAdapter(dict[str, tuple[str, ...]])


class Contents(TypedDict):
    """The fields of a `Model`."""

    config: Config
    parameters: Parameters
    step: int
    support: Examples | None
    calibration: Calibration | None
    buffers: Parameters
    frozen: Mapping[str, bytes]


def encode(reference: Reference | None = None, **contents: Unpack[Contents]) -> bytes:
    """Return a model file of these contents; the support's targets are rounded to `data.bits`.

    Parameters have the fewest bits that are exact for all of them.

    Args:
        reference: the model that has the parameters which `contents` leaves out.
        contents: the model's.

    Raises:
        UserError: when a parameter is not finite, so that nobody could read the file.
    """
    if name := first_not_finite(contents["parameters"]):
        raise UserError(
            f"the model cannot be saved: {name} is not finite, so it diverged; train or adapt it "
            f"again at a lower learning rate, or with fewer steps."
        )
    support, calibration = contents["support"], contents["calibration"]
    tensors = stored_parameters(contents["parameters"]) | _named(_BUFFERS, contents["buffers"])
    for sha256, content in contents["frozen"].items():
        tensors[f"{_FROZEN}/{sha256}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    metadata = metadata_of(contents["config"], contents["step"])
    metadata |= {_REFERENCE: json.dumps(reference._asdict())} if reference else {}
    if support is not None:
        texts = {name: c for name, c in support.given.items() if not isinstance(c, Tensor)}
        others = {name: c for name, c in support.given.items() if isinstance(c, Tensor)}
        levels = to_levels(support.target, contents["config"].data.bits)
        tensors |= {SUPPORT: levels} | _named(_GIVEN, others)
        metadata |= {_GIVEN: json.dumps(texts)} if texts else {}
    if calibration is not None:
        values, arrays = calibration.parts()
        tensors |= _named(_CALIBRATION, arrays)
        metadata[_CALIBRATION] = json.dumps(values)
    return file_bytes(tensors, metadata)


def metadata_of(config: Config, step: int) -> dict[str, str]:
    """Return the metadata that every model file has."""
    return {"format": FORMAT, "step": str(step), "config": config.model_dump_json()}


def decode(data: bytes, url: str) -> tuple[Contents, Reference | None]:
    """Parse the bytes of a model file, which messages name by `url`.

    Returns:
        The contents, to be checked by `check_state` once they are complete, and the model that has
        the parameters which they lack.

    Raises:
        UserError: when they are damaged, or not a model.
    """
    try:
        metadata, tensors = read_metadata(data), load(data)
        version, step = metadata["format"], int(metadata["step"])
        values = json.loads(metadata["config"])
        calibration, reference = _calibration(tensors, metadata), _reference(metadata)
        frozen = _frozen(tensors)
        given = _under(_GIVEN, tensors) | _TEXTS.validate_json(metadata.get(_GIVEN, "{}"))
        _check_values(tensors, step)
        parameters = read_parameters(tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else reason_of(error)
        raise UserError(f"{url} is not a metatrain model, or is damaged: {reason}.") from error
    if version != FORMAT:
        raise UserError(f"{url} is of format {version[:40]}; this metatrain reads {FORMAT}.")
    config = _config(values, url)
    contents = Contents(
        config=config,
        parameters=parameters,
        step=step,
        support=_support(tensors.get(SUPPORT), given, config.data, url),
        calibration=calibration,
        buffers=_under(_BUFFERS, tensors),
        frozen=frozen,
    )
    return contents, reference


def _config(values: Any, url: str) -> Config:
    try:
        return parse_config(values)
    except RecursionError as error:
        raise UserError(f"the configuration in {url} is nested too deeply.") from error


def _check_values(tensors: Mapping[str, Tensor], step: int) -> None:
    if not 0 <= step < _MOST_STEPS:
        raise ValueError(f"its step is {step}")
    if name := first_not_finite(tensors):
        raise ValueError(f"{name} is not finite")


def _frozen(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Return the frozen files inside, each compared with its own hash."""
    files = {sha256: t.numpy().tobytes() for sha256, t in _under(_FROZEN, tensors).items()}
    for sha256, content in files.items():
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("a file inside is another than its hash says")
    return files


def _reference(metadata: Mapping[str, str]) -> Reference | None:
    if _REFERENCE not in metadata:
        return None
    values = json.loads(metadata[_REFERENCE])
    named = values.get("named") is True
    return Reference(path=str(values["path"]), sha256=str(values["sha256"]), named=named)


def _calibration(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Calibration | None:
    if _CALIBRATION not in metadata:
        return None
    arrays = _under(_CALIBRATION, tensors)
    if "own_task" in arrays:  # an earlier one, which says of one number of tasks and seeds alone
        return None
    return Calibration.of_parts(json.loads(metadata[_CALIBRATION]), arrays)


def _support(
    target: Tensor | None, given: Mapping[str, Condition], data: DataConfig, url: str
) -> Examples | None:
    """Check the support's shapes, and return it."""
    if target is None:
        return None
    shape = (data.channels, data.image_size, data.image_size)
    kind = {8: torch.uint8, 16: torch.uint16}[data.bits]
    if target.dtype != kind or target.ndim != 4 or target.shape[1:] != shape:
        raise UserError(
            f"the support in {url} is not of the size and bits of its own configuration."
        )
    if not 0 < len(target) <= MOST_SUPPORT:
        raise UserError(f"{url} has a support of {len(target):,} images; at most {MOST_SUPPORT}.")
    for name, condition in given.items():
        lengths = condition.shape[:1] if isinstance(condition, Tensor) else (len(condition),)
        if tuple(lengths) != (len(target),):
            raise UserError(f"'{name}' in {url} is not given for each of {len(target)} images.")
    return Examples(from_levels(target), given)


def check_state(contents: Contents, url: str) -> None:
    """Compare names and shapes with those of the configured generator.

    An adapted model may lack what only adapting needs.

    Raises:
        UserError: when they differ.
    """
    try:
        theta = skeleton(contents["config"], len(contents["parameters"]))
    except UserError as error:
        raise UserError(f"{url} cannot be used: {error}") from error
    expected, given = _shapes(theta.named()), _shapes(contents["parameters"])
    parts = theta.generator.network.training_only if contents["support"] is not None else ()
    prefixes = tuple(f"network.{part}" for part in parts)
    if given != {n: s for n, s in expected.items() if n in given or not n.startswith(prefixes)}:
        raise UserError(f"the parameters in {url} are not those of its own configuration.")
    known = dict(theta.generator.named_buffers())
    if not _shapes(contents["buffers"]).items() <= _shapes(known).items():
        raise UserError(f"the buffers in {url} are not those of its own configuration.")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor.contiguous() for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    start = f"{prefix}/"
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
