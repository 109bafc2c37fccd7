"""Writing a data set: Parquet shards to be read by range, and the manifest that commits them.

A data set is `data-00000.parquet`, `data-00001.parquet` and so on, sorted by task, and a
`manifest.parquet` that is written last: a folder without one is not a data set.
"""

import hashlib
import io
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from metatrain.base.errors import UserError
from metatrain.data.images import Bits
from metatrain.data.packed.latents import LATENT, PackedLatents, columns_of
from metatrain.data.packed.manifest import (
    BITS_KEY,
    CONDITIONS_KEY,
    FOOTERS_KEY,
    IMAGE,
    LATENTS_KEY,
    MALFORMED,
    MANIFEST,
    MISSING_KEY,
    PackedConditions,
    RowGroup,
    as_bytes,
    manifest_schema,
    parse_manifest,
)
from metatrain.storage.conditional import Stored, create, read_stored, replace
from metatrain.storage.files import MissingError, asking, filesystem_of, write_file

ROW_GROUP_BYTES = 8_000_000
SHARD_BYTES = 128_000_000

# Larger than any row group: the values of a column are one page, whose header nobody needs.
_PAGE_BYTES = 2**30
_PAGE_ROWS = 2**31 - 1

_PACK_KEY = b"metatrain.pack"
# A file that is there while packing goes on: the data beside it is ours to clear.
_MARKER = "packing"

_WRITTEN = re.compile(r"\.?(data-\d{5}|manifest)\.parquet(\.[\w.]*partial)?")

IMAGE_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("index", pa.int32()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("split", pa.string()),
    ]
)


class DatasetWriter:
    """Writer of a data set: shards, each whole at once, and last the manifest, which commits them.

    Where a data set lies already, its shards stay as they are and the new ones come after them.

    Args:
        url: the folder of the data set.
        metadata: further columns of strings.
        conditions: columns whose values can be read by range, and their types: string or binary.
        latents: those of the images, whose values are in the column of latents of each row.
        bits: of a channel of the images.

    Attributes:
        conditions: by column, the section of each condition's kind in the data set that is there.
    """

    def __init__(
        self,
        url: str,
        metadata: Iterable[str] = (),
        conditions: Mapping[str, pa.DataType] | None = None,
        latents: PackedLatents | None = None,
        bits: Bits = 8,
    ) -> None:
        self._url, self._latents, self._bits = url, latents, bits
        self._fs, self._root = filesystem_of(url)
        kinds = {**(conditions or {}), **dict.fromkeys(columns_of(latents), pa.binary())}
        texts = [(column, pa.string()) for column in metadata]
        self._schema = pa.schema([*IMAGE_SCHEMA, *texts, *kinds.items()])
        self._ranged = (IMAGE, *kinds)
        self.conditions: PackedConditions = {}
        # None where images that are there were not counted.
        self._missing: Counter[str] | None = Counter()
        self._manifest: list[RowGroup] = []
        self._footers: dict[str, str] = {}
        self._before: Stored | None = None
        self._committed: set[str] = set()
        self._committing = False
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = 0
        self._earlier: dict[str, Mapping[str, int]] = {}
        self._firsts: dict[str, int] = {}
        self._task: str | None = None
        self._shard: _Shard | None = None

    def packed_before(self) -> dict[str, Any] | None:
        """Return the `note` of the data set that lies there, and add to it; None without one.

        Raises:
            UserError: when it was not packed by this pack.
        """
        self._before = read_stored(f"{self._url}/{MANIFEST}")
        if self._before is None:
            return None
        data = self._before.data
        try:
            parsed = parse_manifest(data)
            self._manifest, self._footers, self.conditions, missing, latents, _ = parsed
            self._missing = None if missing is None and self.conditions else Counter(missing)
            note = {} if latents else _note_of(data)
        except MALFORMED as error:
            raise UserError(
                f"{self._url}/{MANIFEST} is there but is not one that this pack wrote; "
                "choose another DEST, or remove it first."
            ) from error
        if latents:
            raise UserError(
                f"{self._url} has latents, which new images would lack; add to the data set that "
                f"was encoded, and encode it again."
            )
        self._committed = {MANIFEST, *self._footers}
        return note

    @property
    def row_groups(self) -> list[RowGroup]:
        """The row groups that are written, those of the data set that is there among them."""
        return self._manifest

    @property
    def footers(self) -> Mapping[str, str]:
        """The sha256 of each written shard's footer, by the shard's name."""
        return self._footers

    def continue_task(self, name: str, sources: Mapping[str, int]) -> None:
        """Take over the sources of a task that is there: the index of the first image of each."""
        self._earlier[name] = sources

    def begin(self) -> None:
        """Mark the folder as ours, and clear the files of an attempt that was killed.

        Raises:
            UserError: when files lie there that no attempt of ours wrote.
        """
        foreign = self._uncommitted()
        if foreign and not self._exists(_MARKER):
            raise UserError(
                f"{self._url} holds {foreign[0]}, which pack did not write; choose another DEST."
            )
        self.clear()
        write_file(f"{self._url}/{_MARKER}", b"")

    def clear(self) -> None:
        """Remove the files of an attempt, this one or one that was killed."""
        if self._committing:  # the manifest may be there
            return
        for name in self._uncommitted():
            self._remove(name)
        if self._exists(_MARKER):
            self._remove(_MARKER)
        # Object stores have no folders, and the root may be the bucket.
        folder = not self._fs.async_impl and self._fs.exists(self._root)
        if folder and not self._fs.ls(self._root):
            self._fs.rmdir(self._root)

    def _uncommitted(self) -> list[str]:
        """List files of a data set that no manifest names."""
        try:
            paths = asking(self._url, lambda: self._fs.ls(self._root, detail=False))
        except MissingError:
            return []
        names = sorted(posixpath.basename(path) for path in paths)
        return [n for n in names if _WRITTEN.fullmatch(n) and n not in self._committed]

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; rows come sorted by task."""
        row = row | {column: as_bytes(row[column]) for column in self._ranged}
        size = sum(len(row[column]) for column in self._ranged)
        full = self._row_bytes + size > ROW_GROUP_BYTES
        if self._rows and (full or row["task"] != self._rows[0]["task"]):
            self._end_row_group()
        self._rows.append(row)
        self._row_bytes += size
        if self._missing is not None:
            self._missing.update(column for column in self._ranged if not row[column])

    def commit(self, note: Mapping[str, Any], conditions: PackedConditions | None = None) -> None:
        """Write the last shard, and then the manifest.

        Args:
            note: values for the next attempt, kept in the metadata of the manifest's schema.
            conditions: by column, the section of each condition's kind.

        Raises:
            UserError: when another process has written into the folder meanwhile.
        """
        self._end_row_group()
        self._end_shard()
        metadata = {FOOTERS_KEY: json.dumps(self._footers), _PACK_KEY: json.dumps(note)}
        if conditions:
            metadata[CONDITIONS_KEY] = json.dumps(conditions)
        if conditions and self._missing is not None:
            metadata[MISSING_KEY] = json.dumps(self._missing, sort_keys=True)
        if self._bits != 8:
            metadata[BITS_KEY] = json.dumps(self._bits)
        if self._latents:
            metadata[LATENTS_KEY] = self._latents.to_json()
        shared, latents = any(group.sources for group in self._manifest), bool(self._latents)
        schema = manifest_schema(shared, columns=bool(conditions) or latents, latents=latents)
        rows = [asdict(group) for group in self._manifest]
        buffer = io.BytesIO()
        pq.write_table(
            pa.Table.from_pylist(rows, schema.with_metadata(metadata)),
            buffer,
            write_page_checksum=True,
        )
        self._committing = True
        if not self._replace_manifest(buffer.getvalue()):
            raise UserError(f"{self._url} was packed by another process meanwhile; pack again.")
        self._remove(_MARKER)

    def _replace_manifest(self, data: bytes) -> bool:
        """Write the manifest, if the one that lies there is the one that was read."""
        url = f"{self._url}/{MANIFEST}"
        return replace(url, data, self._before) if self._before else create(url, data)

    def _exists(self, name: str) -> bool:
        return asking(self._url, lambda: self._fs.exists(f"{self._root}/{name}"))

    def _remove(self, name: str) -> None:
        asking(self._url, lambda: self._fs.rm_file(f"{self._root}/{name}"))

    def _end_row_group(self) -> None:
        if not self._rows:
            return
        if self._shard is None:
            name = f"data-{len(self._footers):05d}.parquet"
            self._shard = _Shard(name, self._schema, self._ranged)
        self._shard.write(self._rows, self._sources())
        self._rows, self._row_bytes = [], 0
        if self._shard.size >= SHARD_BYTES:
            self._end_shard()

    def _sources(self) -> tuple[int, ...]:
        """Return `RowGroup.sources` of the rows."""
        indices = tuple(row["index"] for row in self._rows)
        if (task := self._rows[0]["task"]) != self._task:
            self._task, self._firsts = task, dict(self._earlier.get(task, {}))
        named = [(row.get("source"), row["index"]) for row in self._rows]
        firsts = tuple(
            self._firsts.setdefault(source, at) if source else at for source, at in named
        )
        return () if firsts == indices else firsts

    def _end_shard(self) -> None:
        if self._shard is None:
            return
        data, row_groups, footer = self._shard.close()
        url = f"{self._url}/{self._shard.name}"
        if not create(url, data):
            raise UserError(f"{url} was written by another process meanwhile; pack again.")
        self._manifest += row_groups
        self._footers[self._shard.name] = footer
        self._shard = None


def _note_of(manifest: bytes) -> dict[str, Any]:
    note = json.loads(pq.read_schema(pa.BufferReader(manifest)).metadata[_PACK_KEY])
    parts = note["tasks"], note["summary"], note.get("patients", {})
    if not all(isinstance(part, dict) for part in parts):
        raise TypeError("it has no note of a pack")
    return note


class _Shard:
    """One Parquet file, written in memory.

    Args:
        name: of the file.
        schema: its columns.
        ranged: the columns that are to be read by range.
    """

    def __init__(self, name: str, schema: pa.Schema, ranged: Sequence[str]) -> None:
        self.name = name
        self._schema, self._ranged = schema, ranged
        self._buffer = io.BytesIO()
        self._written: list[_Written] = []
        strings = {column.name for column in schema if pa.types.is_string(column.type)}
        texts = [name for name in schema.names if name in strings - set(ranged)]
        self._writer = pq.ParquetWriter(
            self._buffer,
            schema,
            compression="none",
            use_dictionary=texts,  # pyright: ignore[reportArgumentType]
            write_statistics=texts,  # pyright: ignore[reportArgumentType]
            write_page_checksum=True,
            data_page_size=_PAGE_BYTES,
            max_rows_per_page=_PAGE_ROWS,
        )

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._buffer.tell()

    def write(self, rows: list[dict[str, Any]], sources: tuple[int, ...]) -> None:
        """Write `rows`, all of one task, as one row group."""
        self._writer.write_table(pa.Table.from_pylist(rows, self._schema), len(rows))
        sizes = {name: sum(4 + len(row[name]) for row in rows) for name in self._ranged}
        self._written.append(_Written(rows[0]["task"], rows[0]["split"], sizes, sources))

    def close(self) -> tuple[bytes, list[RowGroup], str]:
        """Return the file, its row groups as rows of the manifest, and the sha256 of its footer."""
        self._writer.close()
        data = self._buffer.getvalue()
        footer = pq.read_metadata(pa.BufferReader(data))
        groups = [
            self._row_group(i, written, footer.row_group(i), memoryview(data))
            for i, written in enumerate(self._written)
        ]
        return data, groups, sha256_of(memoryview(data)[groups[-1].end :])

    def _row_group(
        self, number: int, written: "_Written", group: pq.RowGroupMetaData, data: memoryview
    ) -> RowGroup:
        offset, length = _extent(group)
        # A page ends with its values, and a column to be read by range has one page.
        begins = {name: _column_end(group, name) - size for name, size in written.sizes.items()}
        images = begins.pop(IMAGE)
        return RowGroup(
            task=written.task,
            split=written.split,
            file=self.name,
            row_group=number,
            offset=offset,
            length=length,
            images=images,
            count=group.num_rows,
            sha256=sha256_of(data[offset : offset + length]),
            sources=written.sources,
            columns=tuple(begins.items()),
            latents=_hash_of_latents(begins, written.sizes, data),
        )


class _Written(NamedTuple):
    """A row group that was written; `sizes` has the bytes of the values by column."""

    task: str
    split: str
    sizes: Mapping[str, int]
    sources: tuple[int, ...]


def _hash_of_latents(begins: Mapping[str, int], sizes: Mapping[str, int], data: memoryview) -> str:
    if LATENT not in begins:
        return ""
    begin = begins[LATENT]
    return sha256_of(data[begin : begin + sizes[LATENT]])


def _extent(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Return the first byte of a row group in its file, and the number of its bytes."""
    columns = [group.column(i) for i in range(group.num_columns)]
    begins = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
    return begins, sum(column.total_compressed_size for column in columns)


def _column_end(group: pq.RowGroupMetaData, name: str) -> int:
    """Return the end in its file of the one page of a column without a dictionary."""
    columns = [group.column(i) for i in range(group.num_columns)]
    column = next(column for column in columns if column.path_in_schema == name)
    return column.data_page_offset + column.total_compressed_size


def sha256_of(data: bytes | memoryview) -> str:
    """Return the SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
