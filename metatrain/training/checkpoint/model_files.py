"""Writing of model files from the fragments of all workers, none of which has a whole tree."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from metatrain.model.format import metadata_of
from metatrain.model.parameter_types import PARAMETERS
from metatrain.storage.files import sha256_of, write_chunks
from metatrain.storage.tensors import header_of, raw_bytes
from metatrain.training.checkpoint.index import DTYPES, MODEL, FileRecord, StoredSlice, TensorRecord
from metatrain.training.checkpoint.peers import Peers
from metatrain.training.checkpoint.writing import Draft, Part, check_read_back

# The part of a checkpoint's tensors that its own model file has.
_AVERAGE = "average"


class _Source(NamedTuple):
    """Tensor of a checkpoint, and its slices with the rank of the worker that has each."""

    name: str
    record: TensorRecord
    pieces: list[tuple[int, StoredSlice]]


def write_models(
    draft: Draft, parts: Sequence[Part], folder: str, peers: Peers
) -> dict[str, FileRecord]:
    """Write the model file of a checkpoint and its snapshots. Collective.

    Worker 0 writes them, with no more than one whole tensor at any time, of which the others send
    it their slices.

    Args:
        draft: this worker's part.
        parts: the files that each worker has written, by rank.
        folder: folder of the checkpoint.
        peers: the workers.

    Returns:
        On worker 0 the files in the folder, by name.

    Raises:
        UserError: when one cannot be written, or does not read back as it was written.
    """
    records: list[FileRecord] = []
    error: Exception | None = None
    for url, part in {**draft.snapshots, f"{folder}/{MODEL}": _AVERAGE}.items():
        sources = _sources(parts, f"{part}/")
        tensors = _collected(draft, sources, peers)
        if peers.rank == 0 and error is None:
            names = [source.name.removeprefix(f"{part}/") for source in sources]
            try:
                records.append(_written(url, draft, names, sources, tensors))
            except Exception as failure:
                error = failure
        for _ in tensors:  # after a failure too, or the others would wait to send theirs
            pass
    if error:
        raise error
    return {MODEL: records[-1]} if records else {}


def _sources(parts: Sequence[Part], prefix: str) -> list[_Source]:
    """Return the tensors whose names begin with `prefix`, in the order of their names."""
    sources: dict[str, _Source] = {}
    for rank, part in enumerate(parts):
        for name, record in part.slices:
            if name.startswith(prefix):
                source = sources.setdefault(name, _Source(name, record, []))
                source.pieces.extend((rank, piece) for piece in record.pieces)
    return [sources[name] for name in sorted(sources)]


def _collected(draft: Draft, sources: Sequence[_Source], peers: Peers) -> Iterator[Tensor]:
    """Yield every whole tensor on worker 0; on the others, send their slices to it."""
    fragments = {fragment.name: fragment for fragment in draft.fragments}
    for name, record, pieces in sources:
        if peers.rank:
            for _, piece in (one for one in pieces if one[0] == peers.rank):
                peers.send(fragments[name].cut(piece.start, piece.stop).values, receiver=0)
            continue
        whole = torch.empty(prod(record.shape), dtype=DTYPES[record.dtype])
        for rank, piece in pieces:
            place = whole[piece.start : piece.stop]
            if rank:
                peers.receive(place, sender=rank)
            else:
                place.copy_(fragments[name].cut(piece.start, piece.stop).values)
        yield whole.view(record.shape)


class _Tally:
    """Length and sha256 of the chunks that pass through it."""

    def __init__(self) -> None:
        self._bytes, self._digest = 0, hashlib.sha256()

    def passing(self, chunks: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yield the chunks as they come."""
        for chunk in chunks:
            self._bytes += chunk.nbytes
            self._digest.update(chunk)
            yield chunk

    @property
    def record(self) -> FileRecord:
        """The file that has these chunks."""
        return FileRecord(bytes=self._bytes, sha256=self._digest.hexdigest())


def _written(
    url: str,
    draft: Draft,
    names: Sequence[str],
    sources: Sequence[_Source],
    tensors: Iterator[Tensor],
) -> FileRecord:
    """Write a model file while its tensors arrive, and read it back."""
    kinds = {
        f"{PARAMETERS}/{name}": (DTYPES[source.record.dtype], source.record.shape)
        for name, source in zip(names, sources, strict=True)
    }
    header = header_of(kinds, metadata_of(draft.config, draft.step))
    tally = _Tally()
    write_chunks(url, tally.passing(chain([memoryview(header)], map(raw_bytes, tensors))))
    check_read_back(url, sha256_of(url), tally.record)
    return tally.record
