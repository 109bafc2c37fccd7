"""The index of a checkpoint: which slice of which tensor lies in which file, and their hashes."""

import hashlib
import re
from collections.abc import Iterable
from math import prod
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator, model_validator

from metatrain.training.fragments import Fragment
from metatrain.training.state import Record

# Written in this order, after everything else: a folder without the second is no checkpoint.
INDEX, COMMIT = "index.json", "commit.json"
# The average as a model, see `metatrain.model.file.load_model`.
MODEL = "model.safetensors"

# Other names in a foreign index might point anywhere.
_FILE = rf"^(shard-\d{{5}}-of-\d{{5}}-\d{{5}}\.safetensors|{re.escape(MODEL)})$"

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}

File = Annotated[str, Field(pattern=_FILE)]
Step = Annotated[NonNegativeInt, Field(lt=2**63)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Commit(_Entry):
    """Proof that a checkpoint is whole: its step, and the sha256 of its index."""

    step: Step
    index: str


class FileRecord(_Entry):
    """Length and hash of a file as it was written."""

    bytes: NonNegativeInt
    sha256: str


class StoredSlice(_Entry):
    """The slice [start, stop) of a flattened tensor, and the file that it lies in."""

    file: File
    start: NonNegativeInt
    stop: NonNegativeInt

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.stop < self.start:
            raise ValueError("a slice ends before it starts")
        return self


class TensorRecord(_Entry):
    """Shape and type of a whole tensor, and the slices that it is stored in."""

    shape: Annotated[tuple[NonNegativeInt, ...], Field(max_length=64)]
    dtype: Literal[tuple(DTYPES)]  # pyright: ignore[reportInvalidTypeForm]
    pieces: tuple[StoredSlice, ...]

    @field_validator("shape")
    @classmethod
    def _can_be_counted(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        # A tensor without elements too, whose other dimensions nothing else bounds.
        if prod(max(1, size) for size in shape) >= 2**63:
            raise ValueError("a tensor has an impossible shape")
        return shape


class Position(_Entry):
    """Position in the data: the next episodes are a pure function of seed and step."""

    seed: Annotated[NonNegativeInt, Field(lt=2**63)]
    step: Step


class Index(_Entry):
    """Content of a checkpoint without the elements of tensors, which does not contradict itself.

    Attributes:
        format: raised when a change makes older checkpoints unreadable.
        data: position in the data.
        config: the run's configuration, as plain values.
        history: see `TrainState`.
        window: see `TrainState`.
        loss: mean training loss of the last `checkpoint.every` steps; None before the first.
        files: files by name.
        tensors: tensors by name, such as 'parameters/head.weight'.
    """

    format: Literal["metatrain-checkpoint-1"] = "metatrain-checkpoint-1"
    data: Position
    config: dict[str, Any]
    history: list[Record]
    window: list[Record]
    loss: float | None
    files: dict[File, FileRecord]
    tensors: dict[str, TensorRecord]

    @model_validator(mode="after")
    def _check_slices(self) -> Self:
        needed: dict[str, int] = {}
        for name, record in self.tensors.items():
            _merged(name, [record])
            for piece in record.pieces:
                size = (piece.stop - piece.start) * DTYPES[record.dtype].itemsize
                needed[piece.file] = needed.get(piece.file, 0) + size
        for file, size in needed.items():
            if file not in self.files:
                raise ValueError(f"slices lie in {file}, which is none of its files")
            if size > self.files[file].bytes:
                raise ValueError(f"{file} is shorter than the slices in it")
        return self

    @model_validator(mode="after")
    def _check_trees(self) -> Self:
        shapes: dict[str, dict[str, tuple[int, ...]]] = {"parameters": {}, "average": {}}
        for name, record in self.tensors.items():
            part, _, parameter = name.partition("/")
            shapes.setdefault(part, {})[parameter] = record.shape
        if shapes["parameters"] != shapes["average"]:
            raise ValueError("its parameters and their average are not of one model")
        return self

    @model_validator(mode="after")
    def _check_history(self) -> Self:
        steps = [record.get("step", -1) for record in self.history]
        if steps != sorted(set(steps)) or not all(0 <= step <= self.data.step for step in steps):
            raise ValueError("its history has impossible steps")
        if not all("loss" in record for record in self.history):
            raise ValueError("its history has records without a loss")
        if len({frozenset(record) for record in self.window}) > 1:
            raise ValueError("its window has records of several kinds")
        return self


def record_of(fragment: Fragment, file: str) -> TensorRecord:
    """Describe a tensor of which one fragment was written to `file`."""
    return TensorRecord(
        shape=fragment.shape,
        dtype=str(fragment.values.dtype).removeprefix("torch."),
        pieces=(StoredSlice(file=file, start=fragment.start, stop=fragment.stop),),
    )


def merged(records: Iterable[tuple[str, TensorRecord]]) -> dict[str, TensorRecord]:
    """Merge the records of fragments, by name of the tensor, into records of whole tensors.

    Raises:
        ValueError: when elements of a tensor were written by no worker, or twice.
    """
    by_name: dict[str, list[TensorRecord]] = {}
    for name, record in records:
        by_name.setdefault(name, []).append(record)
    return {name: _merged(name, parts) for name, parts in sorted(by_name.items())}


def _merged(name: str, records: list[TensorRecord]) -> TensorRecord:
    pieces = [piece for record in records for piece in record.pieces]
    pieces.sort(key=lambda piece: (piece.start, piece.stop))
    ends = [0, *(piece.stop for piece in pieces)]
    starts = [*(piece.start for piece in pieces), prod(records[0].shape)]
    kinds = {(record.shape, record.dtype) for record in records}
    if starts != ends or len(kinds) != 1:
        raise ValueError(f"the slices of {name} are not those of one tensor")
    return records[0].model_copy(update={"pieces": tuple(pieces)})


def key_of(name: str, start: int, stop: int) -> str:
    """Return the name of a slice of a tensor within its file."""
    return f"{name}[{start}:{stop}]"


def sha256(data: bytes) -> str:
    """Return the hash by which files are verified."""
    return hashlib.sha256(data).hexdigest()
