"""The index of a checkpoint: which slice of which tensor lies in which file, and their hashes."""

import hashlib
import re
from collections.abc import Iterable
from math import prod
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from metatrain.training.fragments import Fragment
from metatrain.training.state import Record

# Written in this order, after all else: a folder without the second is no checkpoint.
INDEX, COMMIT = "index.json", "commit.json"
# The average, as what it is used for: see `metatrain.model.file.load_model`.
MODEL = "model.safetensors"

# Other names in a stranger's index might lead anywhere.
_FILE = rf"^(shard-\d{{5}}-of-\d{{5}}-\d{{5}}\.safetensors|{re.escape(MODEL)})$"

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}

File = Annotated[str, Field(pattern=_FILE)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Commit(_Part):
    """What makes a checkpoint whole: its step, and the sha256 of its index."""

    step: int
    index: str


class FileRecord(_Part):
    """A file as it was written."""

    bytes: int
    sha256: str


class Piece(_Part):
    """The slice [start, stop) of a flattened tensor, and the file it lies in."""

    file: File
    start: int
    stop: int


class TensorRecord(_Part):
    """A tensor, whole, and the pieces that it lies in."""

    shape: tuple[int, ...]
    dtype: Literal[tuple(DTYPES)]  # pyright: ignore[reportInvalidTypeForm]
    pieces: tuple[Piece, ...]


class Position(_Part):
    """Which episodes come next: they are a pure function of both."""

    seed: int
    step: int


class Index(_Part):
    """All that a checkpoint holds but the tensors' elements.

    Attributes:
        format: raised when a change makes older checkpoints unreadable.
        data: which episodes come next.
        config: the run's configuration, as plain values.
        history: the run's, see `TrainState`.
        window: the run's, see `TrainState`.
        loss: the mean training loss of the last `checkpoint.every` steps; None before the first.
        files: by name, as they were written.
        tensors: by name, such as 'parameters/head.weight'.
    """

    format: Literal["metatrain-checkpoint-1"] = "metatrain-checkpoint-1"
    data: Position
    config: dict[str, Any]
    history: list[Record]
    window: list[Record]
    loss: float | None
    files: dict[File, FileRecord]
    tensors: dict[str, TensorRecord]


def record_of(fragment: Fragment, file: str) -> TensorRecord:
    """What an index says of a tensor of which one fragment was written, to `file`."""
    return TensorRecord(
        shape=fragment.shape,
        dtype=str(fragment.values.dtype).removeprefix("torch."),
        pieces=(Piece(file=file, start=fragment.start, stop=fragment.stop),),
    )


def merged(records: Iterable[tuple[str, TensorRecord]]) -> dict[str, TensorRecord]:
    """Records of whole tensors, from the records of their fragments by name.

    Raises:
        ValueError: when elements of a tensor were written by nobody, or twice.
    """
    by_name: dict[str, list[TensorRecord]] = {}
    for name, record in records:
        by_name.setdefault(name, []).append(record)
    return {name: _joined(name, found) for name, found in sorted(by_name.items())}


def _joined(name: str, records: list[TensorRecord]) -> TensorRecord:
    pieces = [piece for record in records for piece in record.pieces]
    pieces.sort(key=lambda piece: (piece.start, piece.stop))
    ends = [0, *(piece.stop for piece in pieces)]
    starts = [*(piece.start for piece in pieces), prod(records[0].shape)]
    kinds = {(record.shape, record.dtype) for record in records}
    if starts != ends or len(kinds) != 1:
        raise ValueError(f"the workers' slices of {name} are not those of one tensor")
    return records[0].model_copy(update={"pieces": tuple(pieces)})


def key_of(name: str, start: int, stop: int) -> str:
    """What a slice of a tensor is called within its file."""
    return f"{name}[{start}:{stop}]"


def sha256(data: bytes) -> str:
    """The hash that everything written is known by."""
    return hashlib.sha256(data).hexdigest()
