"""Writing one worker's part of a checkpoint, file by file, each read back before it counts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from safetensors.torch import save

from metatrain.base.errors import UserError
from metatrain.config import Config
from metatrain.model.file import Model, model_bytes, save_model
from metatrain.storage.files import read_file, write_file
from metatrain.training.checkpoint.index import (
    MODEL,
    FileRecord,
    TensorRecord,
    key_of,
    record_of,
    sha256,
)
from metatrain.training.fragments import Fragment, batches_of
from metatrain.training.state import Record

# What writing and reading hold in memory beyond the state itself, a few times over.
_FILE_BYTES = 128_000_000


class Peers(NamedTuple):
    """A worker among those that write a checkpoint together.

    Attributes:
        rank: its place among them.
        world: how many they are.
        gather: hands what each of them has to all, in the order of ranks. Collective.
    """

    rank: int
    world: int
    gather: Callable[[Any], list[Any]]


ALONE = Peers(0, 1, lambda own: [own])


@dataclass(frozen=True)
class Draft:
    """What one worker has of a checkpoint, to be written while training goes on.

    Attributes:
        step: outer steps taken.
        config: the run's configuration.
        history: the run's, see `TrainState`.
        window: the run's, see `TrainState`.
        fragments: its part of the tensors; the parts of all workers cover them, once.
        model: the average as a model of its own; of worker 0 alone.
        beside: further models by their URLs, which are to be there once the checkpoint is.
    """

    step: int
    config: Config
    history: list[Record]
    window: list[Record]
    fragments: list[Fragment]
    model: Model | None = None
    beside: dict[str, Model] = field(default_factory=dict)


class Part(NamedTuple):
    """What a worker has written: its files by name, and the slices of tensors within them."""

    files: dict[str, FileRecord]
    slices: list[tuple[str, TensorRecord]]


def write_part(draft: Draft, folder: str, peers: Peers) -> Part:
    """Write what `draft` has into `folder`.

    Raises:
        UserError: when it cannot be written, or does not read back as it was written.
    """
    part = Part({}, [])
    for url, model in draft.beside.items():
        save_model(model, url)
    if draft.model:
        part.files[MODEL] = _written(f"{folder}/{MODEL}", model_bytes(draft.model))
    for number, batch in enumerate(batches_of(draft.fragments, _FILE_BYTES)):
        name = f"shard-{peers.rank:05d}-of-{peers.world:05d}-{number:05d}.safetensors"
        tensors = {key_of(f.name, f.start, f.stop): f.values.contiguous() for f in batch}
        part.files[name] = _written(f"{folder}/{name}", save(tensors))
        part.slices.extend((fragment.name, record_of(fragment, name)) for fragment in batch)
    return part


def _written(url: str, data: bytes) -> FileRecord:
    record = FileRecord(bytes=len(data), sha256=sha256(data))
    write_file(url, data)
    if sha256(read_file(url)) != record.sha256:
        raise UserError(f"{url} does not read back as it was written; check the disk or the store.")
    return record
