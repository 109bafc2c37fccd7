"""The manifest of a data set: the place of each task's values in the shards.

Readers hold the manifest and nothing else: neither listings nor the footers of Parquet files.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metatrain.data.images import Bits
from metatrain.data.packed.latents import LATENT, PackedLatents, columns_of, parse_latents
from metatrain.data.packed.parquet_headers import unpacked

MANIFEST = "manifest.parquet"
SPLITS = ("train", "val", "test")

# The column of the targets, which every data set has.
IMAGE = "image"

# Keys of the manifest's schema metadata, all JSON: the sha256 of each shard's footer by the
# shard's name; the section of each condition's kind by its column; the number of images that lack a
# condition, by its column; the latents; and the bits of a channel of the images, 8 without the key.
FOOTERS_KEY = b"metatrain.footers"
CONDITIONS_KEY = b"metatrain.conditions"
MISSING_KEY = b"metatrain.missing"
LATENTS_KEY = b"metatrain.latents"
BITS_KEY = b"metatrain.bits"

# By the column of a condition, the plain values of the section of its kind.
PackedConditions = Mapping[str, Mapping[str, Any]]

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

# Columns of a manifest only where images share a source, only where they have conditions or
# latents, and only where they have latents.
SOURCES_FIELD = pa.field("sources", pa.list_(pa.int32()), nullable=False)
COLUMNS_FIELD = pa.field("columns", pa.map_(pa.string(), pa.int64()), nullable=False)
LATENTS_FIELD = pa.field("latents", pa.string(), nullable=False)

# A manifest may come from a stranger: its files must lie within its own folder.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# A value lies behind its length, and the smallest image is 12 bytes.
_LEAST_BYTES = 4 + 12
# Samplers permute the images of a task in memory.
_MOST_IMAGES = 2**24
# The sha256 of a row group does not compress below this, and what is around it has this much room.
_ROW_BYTES, _ROOM = 24, 4096
# Names of tasks and their sources compress well; a bomb does by far better. Sources of equal value
# take no room at all, however many images have them.
_MOST_EXPANSION, _MOST_VALUES = 64, 2**24
# A text that is there once in a file may stand in all of its rows.
_TEXTS = ("task", "split", "file", "sha256", "columns.key_value.key", "latents")
_TEXT_BYTES = 4096


# Raised where data is no manifest.
MALFORMED = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, RecursionError)


@dataclass(frozen=True)
class RowGroup:
    """A row of the manifest: `count` images of `task` in the bytes [offset, offset + length).

    The values of a column lie one after the other, each behind its length as 4 bytes, little end
    first: that is a plain page of Parquet. The images begin at byte `images` of the file, and the
    values of each condition at the byte in `columns`, pairs of a column's name and that byte.

    `sources` holds, for each image, the index within the task of the first image of the same
    source; it is empty where every image here is the first of its source.

    `latents` is the sha256 of the values of the images' latents, which can be read alone; empty
    where there are none.
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
    columns: tuple[tuple[str, int], ...] = ()
    latents: str = ""

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length

    def values_at(
        self, column: str, data: bytes | memoryview, indices: Iterable[int]
    ) -> list[bytes]:
        """Return the values of `column` at `indices` of `data`, the bytes of this row group.

        Raises:
            LookupError: when there is no such column.
            ValueError: when the values do not lie where the manifest has them.
        """
        bounds: list[slice] = []
        at = {IMAGE: self.images, **dict(self.columns)}[column] - self.offset
        for _ in range(self.count):
            begin = at + 4
            at = begin + int.from_bytes(data[at:begin], "little")
            if at > len(data):
                raise ValueError(f"{len(bounds)} values in place of {self.count}")
            bounds.append(slice(begin, at))
        # Only the wanted values are copied: an episode reads few of a large task's images.
        return [bytes(data[bounds[index]]) for index in indices]


class Manifest(NamedTuple):
    """A parsed manifest: rows, the sha256 of each shard's footer, conditions, latents, and bits.

    `missing` is the number of images that lack a condition, by its column; None where an earlier
    version did not count them.
    """

    groups: list[RowGroup]
    footers: dict[str, str]
    conditions: PackedConditions
    missing: dict[str, int] | None
    latents: PackedLatents | None
    bits: Bits


def parse_manifest(data: bytes) -> Manifest:
    """Parse the bytes of a manifest.

    Memory stays below 1.2 GB and 300 times the length of `data`, whatever it claims.

    Raises:
        ValueError: when a row is impossible; and any of `MALFORMED` when `data` is no manifest.
    """
    _check_size(data)
    parquet = pq.read_metadata(pa.BufferReader(data))
    columns = {parquet.schema.column(i).path for i in range(parquet.num_columns)}
    file = pq.ParquetFile(
        pa.BufferReader(data),
        metadata=parquet,
        page_checksum_verification=True,
        read_dictionary=[text for text in _TEXTS if text in columns],
    )
    metadata = file.schema_arrow.metadata or {}
    conditions = _parsed_conditions(metadata.get(CONDITIONS_KEY, b"{}"))
    latents = parse_latents(metadata[LATENTS_KEY]) if LATENTS_KEY in metadata else None
    if latents and LATENT in conditions:
        raise ValueError(f"it has two columns '{LATENT}'")
    fields = (SOURCES_FIELD, COLUMNS_FIELD, LATENTS_FIELD)
    schema = manifest_schema(*(field.name in file.schema_arrow.names for field in fields))
    table = file.read(schema.names)
    _check_texts(table)
    rows = table.cast(schema).to_pylist()
    if not rows:
        raise ValueError("it has no rows")
    lists = (SOURCES_FIELD.name, COLUMNS_FIELD.name)
    groups = [RowGroup(**row | {key: tuple(row.get(key, ())) for key in lists}) for row in rows]
    for group in groups:
        _check(group, conditions, latents)
    missing = _parsed_missing(metadata.get(MISSING_KEY, b"null"), conditions)
    footers, bits = _parsed_footers(metadata[FOOTERS_KEY]), _parsed_bits(metadata)
    return Manifest(groups, footers, conditions, missing, latents, bits)


def _check_size(data: bytes) -> None:
    """Refuse what would take all memory once it is unpacked."""
    rows, values, size, _ = unpacked(data)
    length = len(data) + _ROOM
    if rows * _ROW_BYTES > length:
        raise ValueError(f"{rows:,} rows are too many for {len(data):,} bytes")
    limit = _MOST_EXPANSION * length
    if size > limit or values > max(limit, _MOST_VALUES):
        raise ValueError(f"{len(data):,} bytes claim to hold {max(size, values):,}")


def _check_texts(table: pa.Table) -> None:
    chunks = [(name, chunk) for name in table.column_names for chunk in table[name].chunks]
    for name, chunk in chunks:
        texts = chunk.keys if isinstance(chunk, pa.MapArray) else chunk
        if isinstance(texts, pa.DictionaryArray):
            lengths = pc.call_function("binary_length", [texts.dictionary])
            longest = pc.call_function("max", [lengths]).as_py() or 0
            if longest > _TEXT_BYTES:
                raise ValueError(f"column {name} has a text of {longest:,} bytes")


def _parsed_footers(data: bytes) -> dict[str, str]:
    footers = json.loads(data)
    if not isinstance(footers, dict) or not all(isinstance(v, str) for v in footers.values()):
        raise ValueError("it has impossible hashes of footers")
    return footers


def _parsed_conditions(data: bytes) -> PackedConditions:
    conditions = json.loads(data)
    if not isinstance(conditions, dict) or IMAGE in conditions:
        raise ValueError("it has impossible conditions")
    if not all(isinstance(section, dict) for section in conditions.values()):
        raise ValueError("it has a condition of no kind")
    return conditions


def _parsed_bits(metadata: Mapping[bytes, bytes]) -> Bits:
    bits = json.loads(metadata.get(BITS_KEY, b"8"))
    if bits not in get_args(Bits):
        raise ValueError("it has images of impossible bits")
    return bits


def _parsed_missing(data: bytes, conditions: PackedConditions) -> dict[str, int] | None:
    missing = json.loads(data)
    if missing is None:
        return None
    if not isinstance(missing, dict) or not missing.keys() <= conditions.keys():
        raise ValueError("it counts what lacks no condition of its own")
    if not all(type(count) is int and count >= 0 for count in missing.values()):
        raise ValueError("it has an impossible count of what lacks a condition")
    return missing


def manifest_schema(sources: bool, columns: bool, latents: bool = False) -> pa.Schema:
    """Return the columns of a manifest, with or without each of those that not all have."""
    chosen = ((sources, SOURCES_FIELD), (columns, COLUMNS_FIELD), (latents, LATENTS_FIELD))
    return pa.schema([*MANIFEST_SCHEMA, *(field for wanted, field in chosen if wanted)])


def alone(group: RowGroup, latents: PackedLatents) -> RowGroup:
    """Return the latents of a row group as one whose images they are."""
    begin, length = dict(group.columns)[LATENT], group.count * (4 + latents.bytes)
    return replace(
        group, offset=begin, images=begin, length=length, sha256=group.latents, columns=()
    )


def as_bytes(value: str | bytes) -> bytes:
    """Return a value of a column as it is packed: Parquet's reader gives texts as strings."""
    return value.encode() if isinstance(value, str) else value


def by_task(groups: Sequence[RowGroup]) -> dict[str, list[RowGroup]]:
    """Return the row groups of each task, in their order.

    Raises:
        ValueError: when a task is in two splits, or has too many images.
    """
    tasks: dict[str, list[RowGroup]] = {}
    for group in groups:
        tasks.setdefault(group.task, []).append(group)
    for name, parts in tasks.items():
        if sum(part.count for part in parts) > _MOST_IMAGES:
            raise ValueError(f"task '{name}' has more than {_MOST_IMAGES:,} images")
        if len({part.split for part in parts}) > 1:
            raise ValueError(f"task '{name}' is in two splits")
    return tasks


def _check(group: RowGroup, conditions: PackedConditions, latents: PackedLatents | None) -> None:
    if not _PLAIN_NAME.fullmatch(group.file):
        raise ValueError(f"'{group.file}' is not the plain name of a file")
    if group.split not in SPLITS:
        raise ValueError(f"task '{group.task}' is in an unknown split '{group.split}'")
    if min(group.row_group, group.offset) < 0 or min(group.length, group.count) < 1:
        raise ValueError(f"task '{group.task}' has an impossible range")
    if group.count * _LEAST_BYTES > group.length:
        raise ValueError(
            f"task '{group.task}' has {group.count:,} images in {group.length:,} bytes"
        )
    if not group.offset <= group.images < group.end:
        raise ValueError(f"task '{group.task}' has its images outside of its range")
    if not _SHA256.fullmatch(group.sha256):
        raise ValueError(f"task '{group.task}' has an impossible sha256")
    if group.sources and (len(group.sources) != group.count or min(group.sources) < 0):
        raise ValueError(f"task '{group.task}' has impossible sources")
    if sorted(name for name, _ in group.columns) != sorted([*conditions, *columns_of(latents)]):
        raise ValueError(f"task '{group.task}' has other columns than the data set")
    if not all(group.offset <= begin < group.end for _, begin in group.columns):
        raise ValueError(f"task '{group.task}' has a column outside of its range")
    if latents and not _SHA256.fullmatch(group.latents):
        raise ValueError(f"task '{group.task}' has an impossible sha256 of its latents")
    if latents and alone(group, latents).end > group.end:
        raise ValueError(f"task '{group.task}' has its latents outside of its range")
