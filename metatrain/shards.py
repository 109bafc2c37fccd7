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

from metatrain.errors import UserError
from metatrain.files import MissingError, filesystem_of, reaching, read_bytes
from metatrain.store import FOOTERS_KEY, MANIFEST, MANIFEST_SCHEMA, RowGroup

ROW_GROUP_BYTES = 8_000_000
SHARD_BYTES = 128_000_000

_PACK_KEY = b"metatrain.pack"
# There while packing goes on: what lies beside it is ours to clear.
_MARKER = "packing"

_WRITTEN = re.compile(r"data-\d{5}\.parquet|manifest\.parquet(\.part)?")

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
    """Writes shards, each whole at once, and the manifest last: that commits the data set."""

    def __init__(self, url: str, columns: Iterable[str]) -> None:
        self._url = url
        self._fs, self._root = filesystem_of(url)
        self._schema = pa.schema([*IMAGE_SCHEMA, *((column, pa.string()) for column in columns)])
        self._manifest: list[RowGroup] = []
        self._footers: dict[str, str] = {}
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = 0
        self._shard: _Shard | None = None

    def packed_before(self) -> dict[str, Any] | None:
        """What `commit` was told when the data set that lies there was packed."""
        try:
            with reaching(self._url):
                data = read_bytes(self._fs, f"{self._root}/{MANIFEST}")
            return json.loads(pq.read_schema(pa.BufferReader(data)).metadata[_PACK_KEY])
        except MissingError:
            return None
        except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._url}/{MANIFEST} is there but is not one that pack wrote; "
                "choose another DEST, or remove it first."
            ) from error

    def begin(self) -> None:
        """Mark the folder as ours, and clear what an attempt that was killed left there.

        Raises:
            UserError: when files lie there that no attempt of ours wrote.
        """
        with reaching(self._url):
            paths = self._fs.ls(self._root, detail=False) if self._fs.exists(self._root) else []
        names = {posixpath.basename(path) for path in paths}
        foreign = sorted(name for name in names if _WRITTEN.fullmatch(name))
        if foreign and _MARKER not in names:
            raise UserError(
                f"{self._url} holds {foreign[0]}, which pack did not write; choose another DEST."
            )
        self.clear()
        self._write(_MARKER, b"")

    def clear(self) -> None:
        """Remove what an attempt wrote, this one or one that was killed; the manifest first."""
        with reaching(self._url):
            if self._fs.exists(self._root):
                paths = self._fs.ls(self._root, detail=False)
                for path in sorted(paths, reverse=True):
                    if _WRITTEN.fullmatch(posixpath.basename(path)):
                        self._fs.rm_file(path)
                if self._fs.exists(f"{self._root}/{_MARKER}"):
                    self._fs.rm_file(f"{self._root}/{_MARKER}")
                # Not on object stores, which have no folders, and where it may mean the bucket.
                if not self._fs.async_impl and not self._fs.ls(self._root):
                    self._fs.rmdir(self._root)

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
        schema = MANIFEST_SCHEMA.with_metadata(metadata)
        rows = [asdict(group) for group in self._manifest]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema), buffer, write_page_checksum=True)
        # Renaming is what makes the manifest appear whole or not at all.
        part = f"{MANIFEST}.part"
        self._write(part, buffer.getvalue())
        with reaching(self._url):
            self._fs.mv(f"{self._root}/{part}", f"{self._root}/{MANIFEST}")
            self._fs.rm_file(f"{self._root}/{_MARKER}")

    def _end_row_group(self) -> None:
        if not self._rows:
            return
        self._shard = self._shard or _Shard(f"data-{len(self._footers):05d}.parquet", self._schema)
        self._shard.write(self._rows)
        self._rows, self._row_bytes = [], 0
        if self._shard.size >= SHARD_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._shard is None:
            return
        data, row_groups, footer = self._shard.close()
        self._write(self._shard.name, data)
        self._manifest += row_groups
        self._footers[self._shard.name] = footer
        self._shard = None

    def _write(self, name: str, data: bytes) -> None:
        with reaching(self._url):
            # Object stores have no folders, and s3fs would make a bucket that is not there.
            if not self._fs.async_impl:
                self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(f"{self._root}/{name}", data)


class _Shard:
    """One Parquet file in the making, in memory."""

    def __init__(self, name: str, schema: pa.Schema) -> None:
        self.name = name
        self._schema = schema
        self._buffer = io.BytesIO()
        self._written: list[tuple[str, str]] = []
        texts = [column.name for column in schema if pa.types.is_string(column.type)]
        self._writer = pq.ParquetWriter(
            self._buffer,
            schema,
            compression="none",
            use_dictionary=texts,  # pyright: ignore[reportArgumentType]
            write_statistics=texts,  # pyright: ignore[reportArgumentType]
            write_page_checksum=True,
        )

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._buffer.tell()

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Write `rows`, all of one task, as one row group."""
        self._writer.write_table(pa.Table.from_pylist(rows, self._schema), len(rows))
        self._written.append((rows[0]["task"], rows[0]["split"]))

    def close(self) -> tuple[bytes, list[RowGroup], str]:
        """The file, what the manifest says of its row groups, and the sha256 of its footer."""
        self._writer.close()
        data = self._buffer.getvalue()
        footer = pq.read_metadata(pa.BufferReader(data))
        groups, end = [], 0
        for i, (task, split) in enumerate(self._written):
            offset, length = _extent(footer.row_group(i))
            end = offset + length
            digest = sha256_of(memoryview(data)[offset:end])
            count = footer.row_group(i).num_rows
            groups.append(RowGroup(task, split, self.name, i, offset, length, count, digest))
        return data, groups, sha256_of(memoryview(data)[end:])


def _extent(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Where a row group begins in its file, and how many bytes it has."""
    columns = [group.column(i) for i in range(group.num_columns)]
    begins = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
    return begins, sum(column.total_compressed_size for column in columns)


def sha256_of(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
