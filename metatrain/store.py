"""Reading a packed data set: one ranged read a row group, and nothing that is not verified.

A data set is a folder of Parquet shards with a `manifest.parquet`, at any fsspec URL. The manifest
says where in which shard the images of a task lie, so opening a data set costs one small read and
reading a small task costs one more. `metatrain.pack` writes what is read here.
"""

import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from metatrain.errors import UserError
from metatrain.files import MissingError, filesystem_of, reaching, read_bytes

MANIFEST = "manifest.parquet"
SPLITS = ("train", "val", "test")

# Under this key of the manifest's schema metadata: JSON of shard name -> sha256 of its footer.
FOOTERS_KEY = b"metatrain.footers"

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row_group", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("count", pa.int32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)

# A manifest may come from a stranger: what it names must stay within its own folder.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Task:
    """Images that belong together: their task's name, its split, and how many they are."""

    name: str
    split: str
    count: int


@dataclass(frozen=True)
class RowGroup:
    """A row of the manifest: `count` images of `task` in the bytes [offset, offset + length)."""

    task: str
    split: str
    file: str
    row_group: int
    offset: int
    length: int
    count: int
    sha256: str


class EpisodeStore:
    """A packed data set, open for reading; safe to share between threads.

    Attributes:
        url: where the data set lies.
        fingerprint: sha256 of the manifest, which itself holds the sha256 of everything else.
    """

    def __init__(self, url: str) -> None:
        """Read the manifest of the data set at `url`.

        Raises:
            UserError: when there is no data set, or its manifest is damaged or cannot be reached.
        """
        self.url = url.rstrip("/")
        self._fs, self._root = filesystem_of(self.url)
        manifest = self._read_manifest()
        self.fingerprint = hashlib.sha256(manifest).hexdigest()
        with self._sound(MANIFEST):
            row_groups, self._footer_hashes = _parse_manifest(manifest)
            self._row_groups = _by_task(row_groups)
        self._footer_starts: dict[str, int] = {}
        for group in row_groups:
            end = group.offset + group.length
            self._footer_starts[group.file] = max(end, self._footer_starts.get(group.file, 0))
        self._footers: dict[str, pq.FileMetaData] = {}
        self._lock = threading.Lock()

    def tasks(self, split: str) -> list[Task]:
        """The tasks of `split` ('train', 'val' or 'test'), sorted by name."""
        if split not in SPLITS:
            raise UserError(f"there is no split '{split}'; the splits are {', '.join(SPLITS)}.")
        return [
            Task(name, split, sum(group.count for group in groups))
            for name, groups in sorted(self._row_groups.items())
            if groups[0].split == split
        ]

    def read(self, task: Task) -> list[bytes]:
        """All encoded images of `task` in the order of their index.

        Every row group is one ranged read, checked against the manifest; so is, once, the footer
        of each shard.

        Raises:
            UserError: when bytes are missing or out of reach, or are not those that were packed.
        """
        groups = self._row_groups[task.name]
        return [image for group in groups for image in self._read_row_group(group)]

    def _read_manifest(self) -> bytes:
        try:
            with reaching(self.url):
                return read_bytes(self._fs, f"{self._root}/{MANIFEST}")
        except MissingError:
            with reaching(self.url):
                folder_exists = self._fs.exists(self._root)
            if not folder_exists:
                raise
            raise UserError(
                f"{self.url} is not a packed data set, for it has no {MANIFEST}; "
                "pack it first: metatrain pack SOURCE DEST"
            ) from None

    def _read_row_group(self, group: RowGroup) -> list[bytes]:
        footer = self._footer(group.file)
        end = group.offset + group.length
        window = _Window(self._verified(group.file, group.offset, end, group.sha256), group.offset)
        with self._sound(group.file):
            shard = pq.ParquetFile(window, metadata=footer)
            table = shard.read_row_group(group.row_group, columns=["image"], use_threads=False)
            images = table["image"].to_pylist()
            if len(images) != group.count:
                raise ValueError(f"{len(images)} images in place of {group.count}")
        return images

    def _footer(self, file: str) -> pq.FileMetaData:
        with self._lock:
            if file not in self._footers:
                start = self._footer_starts[file]
                tail = self._verified(file, start, None, self._footer_hashes.get(file))
                with self._sound(file):
                    self._footers[file] = pq.read_metadata(pa.BufferReader(tail))
            return self._footers[file]

    def _verified(self, file: str, start: int, end: int | None, sha256: str | None) -> bytes:
        """The bytes [start, end) of a shard, read once more if they are not the packed ones."""
        for _ in range(2):
            try:
                with reaching(self.url):
                    data = read_bytes(self._fs, f"{self._root}/{file}", start, end)
            except MissingError:
                raise UserError(
                    f"{self.url}/{file} is missing; copy or pack the data set again."
                ) from None
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        raise UserError(
            f"{self.url}/{file} is damaged: bytes {start} to {end or 'the end'} are not those "
            "that were packed; copy or pack the data set again."
        )

    @contextmanager
    def _sound(self, file: str) -> Iterator[None]:
        """Whatever fails inside means that `file` is not what `metatrain pack` wrote."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
            reason = str(error).strip("'\n").partition("\n")[0].rstrip(".")
            raise UserError(
                f"{self.url}/{file} is malformed ({reason}); copy or pack the data set again."
            ) from error


def _parse_manifest(data: bytes) -> tuple[list[RowGroup], dict[str, str]]:
    """The rows of a manifest, and the sha256 of each shard's footer."""
    table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    footers = json.loads((table.schema.metadata or {})[FOOTERS_KEY])
    rows = table.select(MANIFEST_SCHEMA.names).cast(MANIFEST_SCHEMA).to_pylist()
    groups = [RowGroup(**row) for row in rows]
    for group in groups:
        if not _PLAIN_NAME.fullmatch(group.file):
            raise ValueError(f"'{group.file}' is not the plain name of a file")
        if group.split not in SPLITS:
            raise ValueError(f"task '{group.task}' is in an unknown split '{group.split}'")
        if min(group.row_group, group.offset) < 0 or min(group.length, group.count) < 1:
            raise ValueError(f"task '{group.task}' has a range that cannot be")
    return groups, footers


def _by_task(groups: list[RowGroup]) -> dict[str, list[RowGroup]]:
    tasks: dict[str, list[RowGroup]] = {}
    for group in groups:
        tasks.setdefault(group.task, []).append(group)
    for name, parts in tasks.items():
        if len({part.split for part in parts}) > 1:
            raise ValueError(f"task '{name}' is in two splits")
    return tasks


class _Window(io.RawIOBase):
    """Bytes of a row group at the place where they stand in their file, for pyarrow to read."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data, self._offset, self._position = data, offset, offset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        end = self._offset + len(self._data)
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: end}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        start = self._position - self._offset
        stop = len(self._data) if size < 0 else start + size
        if start < 0 or stop > len(self._data):
            raise ValueError("the footer points outside of the row group")
        self._position = self._offset + stop
        return self._data[start:stop]
