"""Writing of one worker's part of a checkpoint, file by file, each read back before it counts."""

from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import TypeAdapter
from safetensors.torch import save

from metatrain.base.errors import UserError
from metatrain.config import Config
from metatrain.storage.files import read_file, write_file
from metatrain.training.checkpoint.index import (
    FileRecord,
    TensorRecord,
    key_of,
    record_of,
    sha256,
)
from metatrain.training.checkpoint.peers import Peers
from metatrain.training.fragments import Fragment, batches_of
from metatrain.training.state import Record

# Writing and reading hold this much in memory beyond the state itself, a few times over.
_FILE_BYTES = 128_000_000


@dataclass(frozen=True, kw_only=True)
class Draft:
    """One worker's part of a checkpoint, to be written while training goes on.

    Attributes:
        step: outer steps taken.
        config: the run's configuration.
        history: see `TrainState`.
        window: see `TrainState`.
        fragments: its part of the tensors; the parts of all workers cover them, each element once.
        snapshots: further model files by their URLs, and the part of the tensors that each has;
            they are complete once the checkpoint is.
    """

    step: int
    config: Config
    history: list[Record]
    window: list[Record]
    fragments: list[Fragment]
    snapshots: dict[str, str] = field(default_factory=dict)


class Part(NamedTuple):
    """The files that a worker has written, by name, and the slices of tensors within them."""

    files: dict[str, FileRecord]
    slices: list[tuple[str, TensorRecord]]

    def to_json(self) -> str:
        """Describe it for the other workers."""
        return _PARTS.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Part":
        """Read another worker's description."""
        return _PARTS.validate_json(text)


_PARTS = TypeAdapter(Part)


def write_part(draft: Draft, folder: str, peers: Peers) -> Part:
    """Write the fragments of `draft` into `folder`.

    Raises:
        UserError: when they cannot be written, or do not read back as they were written.
    """
    part = Part({}, [])
    for number, batch in enumerate(batches_of(draft.fragments, _FILE_BYTES)):
        name = f"shard-{peers.rank:05d}-of-{peers.world:05d}-{number:05d}.safetensors"
        tensors = {key_of(f.name, f.start, f.stop): f.values.contiguous() for f in batch}
        part.files[name] = _written(f"{folder}/{name}", save(tensors))
        part.slices.extend((fragment.name, record_of(fragment, name)) for fragment in batch)
    return part


def _written(url: str, data: bytes) -> FileRecord:
    record = FileRecord(bytes=len(data), sha256=sha256(data))
    write_file(url, data)
    check_read_back(url, sha256(read_file(url)), record)
    return record


def check_read_back(url: str, digest: str, record: FileRecord) -> None:
    """Compare the sha256 of a file that was read back with that of what was written.

    Raises:
        UserError: when they differ.
    """
    if digest != record.sha256:
        raise UserError(f"{url} does not read back as it was written; check the disk or the store.")
