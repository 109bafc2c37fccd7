"""The manifest of a data set: where in which shard the images of each task lie.

Readers hold the manifest and nothing else: neither listings nor the footers of Parquet files.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

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
        pa.field("images", pa.int64(), nullable=False),
        pa.field("count", pa.int32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)

# A column of its own, there only where images share a source.
SOURCES_FIELD = pa.field("sources", pa.list_(pa.int32()), nullable=False)

# A manifest may come from a stranger: what it names must stay within its own folder.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RowGroup:
    """A row of the manifest: `count` images of `task` in the bytes [offset, offset + length).

    The images lie one after the other from byte `images` of the file on, each behind its length
    as 4 bytes, little end first: that is how Parquet writes a plain page.

    `sources` says which images of the task come from the same source, by the index within the task
    of that source's first image; it is empty where every image here is the first of its source.
    """

    task: str
    split: str
    file: str
    row_group: int
    offset: int
    length: int
    images: int
    count: int
    sha256: str
    sources: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length

    def images_at(self, data: bytes | memoryview, indices: Iterable[int]) -> list[bytes]:
        """The encoded images at `indices` of `data`, the bytes of this row group.

        Raises:
            ValueError: when they do not lie there as the manifest says.
        """
        bounds: list[slice] = []
        at = self.images - self.offset
        for _ in range(self.count):
            begin = at + 4
            at = begin + int.from_bytes(data[at:begin], "little")
            if at > len(data):
                raise ValueError(f"{len(bounds)} images in place of {self.count}")
            bounds.append(slice(begin, at))
        # Only what is wanted is copied: an episode wants few of a large task's images.
        return [bytes(data[bounds[index]]) for index in indices]


def parse_manifest(data: bytes) -> tuple[list[RowGroup], dict[str, str]]:
    """The rows of a manifest, and the sha256 of each shard's footer.

    Raises:
        ValueError: when they cannot be; and LookupError, TypeError, OSError or ArrowException
            when it is no manifest at all.
    """
    table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    footers = json.loads((table.schema.metadata or {})[FOOTERS_KEY])
    schema = manifest_schema(SOURCES_FIELD.name in table.column_names)
    rows = table.select(schema.names).cast(schema).to_pylist()
    groups = [RowGroup(**row | {"sources": tuple(row.get("sources", ()))}) for row in rows]
    for group in groups:
        _check(group)
    return groups, footers


def manifest_schema(sources: bool) -> pa.Schema:
    """The columns of a manifest, with those of a data set whose images share sources or without."""
    return MANIFEST_SCHEMA.append(SOURCES_FIELD) if sources else MANIFEST_SCHEMA


def by_task(groups: Sequence[RowGroup]) -> dict[str, list[RowGroup]]:
    """The row groups of each task, in their order.

    Raises:
        ValueError: when a task is in two splits.
    """
    tasks: dict[str, list[RowGroup]] = {}
    for group in groups:
        tasks.setdefault(group.task, []).append(group)
    for name, parts in tasks.items():
        if len({part.split for part in parts}) > 1:
            raise ValueError(f"task '{name}' is in two splits")
    return tasks


def _check(group: RowGroup) -> None:
    if not _PLAIN_NAME.fullmatch(group.file):
        raise ValueError(f"'{group.file}' is not the plain name of a file")
    if group.split not in SPLITS:
        raise ValueError(f"task '{group.task}' is in an unknown split '{group.split}'")
    if min(group.row_group, group.offset) < 0 or min(group.length, group.count) < 1:
        raise ValueError(f"task '{group.task}' has a range that cannot be")
    if not group.offset <= group.images < group.end:
        raise ValueError(f"task '{group.task}' has its images outside of its range")
    if not _SHA256.fullmatch(group.sha256):
        raise ValueError(f"task '{group.task}' has a sha256 that is none")
    if group.sources and (len(group.sources) != group.count or min(group.sources) < 0):
        raise ValueError(f"task '{group.task}' has sources that cannot be")
