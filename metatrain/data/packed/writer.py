"""Writing a data set: Parquet shards that are read by range, and the manifest that commits them.

A data set is `data-00000.parquet`, `data-00001.parquet` and so on, sorted by task, and a
`manifest.parquet` written last: a folder without one is not a data set.
"""

import hashlib
import io
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from metatrain.base.errors import UserError
from metatrain.data.packed.manifest import (
    FOOTERS_KEY,
    MANIFEST,
    RowGroup,
    manifest_schema,
    parse_manifest,
)
from metatrain.storage.files import MissingError, asking, filesystem_of, read_file, write_file

ROW_GROUP_BYTES = 8_000_000
SHARD_BYTES = 128_000_000

# Larger than any row group: its images are one page, which can be read without its header.
_PAGE_BYTES = 2**30
_PAGE_ROWS = 2**31 - 1

_PACK_KEY = b"metatrain.pack"
# There while packing goes on: what lies beside it is ours to clear.
_MARKER = "packing"

_WRITTEN = re.compile(r"(data-\d{5}|manifest)\.parquet(\.partial)?")

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
    """Writes shards, each whole at once, and the manifest last: that commits the data set.

    Where a data set lies already, its shards stay as they are and the new ones come after them.
    """

    def __init__(self, url: str, columns: Iterable[str]) -> None:
        self._url = url
        self._fs, self._root = filesystem_of(url)
        self._schema = pa.schema([*IMAGE_SCHEMA, *((column, pa.string()) for column in columns)])
        self._manifest: list[RowGroup] = []
        self._footers: dict[str, str] = {}
        self._committed: set[str] = set()
        self._committing = False
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = 0
        self._firsts: dict[str, int] = {}
        self._shard: _Shard | None = None

    def packed_before(self) -> dict[str, Any] | None:
        """What `commit` was told when the data set that lies there was packed, to be added to."""
        try:
            data = read_file(f"{self._url}/{MANIFEST}")
        except MissingError:
            return None
        try:
            told = json.loads(pq.read_schema(pa.BufferReader(data)).metadata[_PACK_KEY])
            self._manifest, self._footers = parse_manifest(data)
        except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._url}/{MANIFEST} is there but is not one that this pack wrote; "
                "choose another DEST, or remove it first."
            ) from error
        self._committed = {MANIFEST, *self._footers}
        return told

    def begin(self) -> None:
        """Mark the folder as ours, and clear what an attempt that was killed left there.

        Raises:
            UserError: when files lie there that no attempt of ours wrote.
        """
        foreign = self._uncommitted()
        if foreign and not self._is_there(_MARKER):
            raise UserError(
                f"{self._url} holds {foreign[0]}, which pack did not write; choose another DEST."
            )
        self.clear()
        write_file(f"{self._url}/{_MARKER}", b"")

    def clear(self) -> None:
        """Remove what an attempt wrote, this one or one that was killed."""
        if self._committing:  # the manifest may be there
            return
        for name in self._uncommitted():
            self._remove(name)
        if self._is_there(_MARKER):
            self._remove(_MARKER)
        # Not on object stores, which have no folders, and where it may mean the bucket.
        folder = not self._fs.async_impl and self._fs.exists(self._root)
        if folder and not self._fs.ls(self._root):
            self._fs.rmdir(self._root)

    def _uncommitted(self) -> list[str]:
        """Files of a data set that no manifest names."""
        try:
            paths = asking(self._url, lambda: self._fs.ls(self._root, detail=False))
        except MissingError:
            return []
        names = sorted(posixpath.basename(path) for path in paths)
        return [n for n in names if _WRITTEN.fullmatch(n) and n not in self._committed]

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; rows come sorted by task."""
        full = self._row_bytes + len(row["image"]) > ROW_GROUP_BYTES
        if self._rows and (full or row["task"] != self._rows[0]["task"]):
            self._end_row_group()
        self._rows.append(row)
        self._row_bytes += len(row["image"])

    def commit(self, told: Mapping[str, Any]) -> None:
        """Write what is left, and then the manifest with `told` in its schema's metadata."""
        self._end_row_group()
        self._end_shard()
        metadata = {FOOTERS_KEY: json.dumps(self._footers), _PACK_KEY: json.dumps(told)}
        schema = manifest_schema(any(group.sources for group in self._manifest))
        rows = [asdict(group) for group in self._manifest]
        buffer = io.BytesIO()
        pq.write_table(
            pa.Table.from_pylist(rows, schema.with_metadata(metadata)),
            buffer,
            write_page_checksum=True,
        )
        self._committing = True
        write_file(f"{self._url}/{MANIFEST}", buffer.getvalue())
        self._remove(_MARKER)

    def _is_there(self, name: str) -> bool:
        return asking(self._url, lambda: self._fs.exists(f"{self._root}/{name}"))

    def _remove(self, name: str) -> None:
        asking(self._url, lambda: self._fs.rm_file(f"{self._root}/{name}"))

    def _end_row_group(self) -> None:
        if not self._rows:
            return
        self._shard = self._shard or _Shard(f"data-{len(self._footers):05d}.parquet", self._schema)
        self._shard.write(self._rows, self._sources())
        self._rows, self._row_bytes = [], 0
        if self._shard.size >= SHARD_BYTES:
            self._end_shard()

    def _sources(self) -> tuple[int, ...]:
        """Of each row, the index of the first image of its source, as the manifest has it."""
        own = tuple(row["index"] for row in self._rows)
        if own[0] == 0:
            self._firsts = {}
        named = [(row.get("source"), row["index"]) for row in self._rows]
        firsts = tuple(
            self._firsts.setdefault(source, at) if source else at for source, at in named
        )
        return () if firsts == own else firsts

    def _end_shard(self) -> None:
        if self._shard is None:
            return
        data, row_groups, footer = self._shard.close()
        write_file(f"{self._url}/{self._shard.name}", data)
        self._manifest += row_groups
        self._footers[self._shard.name] = footer
        self._shard = None


class _Shard:
    """One Parquet file in the making, in memory."""

    def __init__(self, name: str, schema: pa.Schema) -> None:
        self.name = name
        self._schema = schema
        self._buffer = io.BytesIO()
        self._written: list[tuple[str, str, int, tuple[int, ...]]] = []
        texts = [column.name for column in schema if pa.types.is_string(column.type)]
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
        image_bytes = sum(4 + len(row["image"]) for row in rows)
        self._written.append((rows[0]["task"], rows[0]["split"], image_bytes, sources))

    def close(self) -> tuple[bytes, list[RowGroup], str]:
        """The file, what the manifest says of its row groups, and the sha256 of its footer."""
        self._writer.close()
        data = self._buffer.getvalue()
        footer = pq.read_metadata(pa.BufferReader(data))
        groups, end = [], 0
        for i, (task, split, image_bytes, sources) in enumerate(self._written):
            offset, length = _extent(footer.row_group(i))
            end = offset + length
            # A page ends with its values, and theirs is the only page of its column.
            images = _column_end(footer.row_group(i), "image") - image_bytes
            digest = sha256_of(memoryview(data)[offset:end])
            count = footer.row_group(i).num_rows
            place = (self.name, i, offset, length, images, count, digest)
            groups.append(RowGroup(task, split, *place, sources))
        return data, groups, sha256_of(memoryview(data)[end:])


def _extent(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Where a row group begins in its file, and how many bytes it has."""
    columns = [group.column(i) for i in range(group.num_columns)]
    begins = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
    return begins, sum(column.total_compressed_size for column in columns)


def _column_end(group: pq.RowGroupMetaData, name: str) -> int:
    """Where the one page of a column without a dictionary ends in its file."""
    columns = [group.column(i) for i in range(group.num_columns)]
    column = next(column for column in columns if column.path_in_schema == name)
    return column.data_page_offset + column.total_compressed_size


def sha256_of(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
