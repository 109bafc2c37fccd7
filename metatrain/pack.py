"""Packing: from images grouped into tasks to Parquet shards that are read by range.

A data set is `data-00000.parquet`, `data-00001.parquet` and so on, sorted by task, and a
`manifest.parquet` written last: a folder without one is not a data set. Packing the same source
with the same options gives the same bytes.
"""

import csv
import hashlib
import io
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from metatrain.errors import UserError, did_you_mean
from metatrain.glyphs import glyph_fonts, glyph_images, glyph_tasks
from metatrain.images import BadImage, normalise
from metatrain.progress import Progress
from metatrain.store import (
    FOOTERS_KEY,
    MANIFEST,
    MANIFEST_SCHEMA,
    SPLITS,
    MissingError,
    RowGroup,
    filesystem_of,
    reaching,
    read_bytes,
)

GLYPHS = "glyphs"
GLYPH_SIZE = 28

ROW_GROUP_BYTES = 8_000_000
SHARD_BYTES = 128_000_000
MAX_FILE_BYTES = 512_000_000

# Raise it when the same source would no longer give the same data set.
_FORMAT = 1
_PACK_KEY = b"metatrain.pack"
_WRITTEN = re.compile(r"data-\d{5}\.parquet|manifest\.parquet(\.part)?")

_NOT_AN_IMAGE = "not an image"
# Formats that we do not read are here too: of an icon in SVG the user should hear.
_IMAGE_SUFFIX = re.compile(
    r"(\.(a?png|jpe?g?|jfif|webp|gif|bmp|dib|tiff?|hei[cf]|avif|jxl|jp2|svg|ico|psd|tga|p[pgbn]m))?"
)
_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("index", pa.int32()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("split", pa.string()),
    ]
)


@dataclass(frozen=True)
class PackSummary:
    """What became of the images.

    Attributes:
        url: where the data set lies.
        tasks: how many tasks each split has.
        images: how many images were kept.
        notes: how many of the kept were handled in which way, such as ``transparent: on white``.
        refused: how many files were refused for which reason.
        already_packed: whether the data set was there before, and nothing was done.
    """

    url: str
    tasks: Mapping[str, int]
    images: int
    notes: Mapping[str, int]
    refused: Mapping[str, int]
    already_packed: bool = False

    def __str__(self) -> str:
        splits = ", ".join(f"{count:,} {split}" for split, count in self.tasks.items())
        lines = [
            f"{'already packed' if self.already_packed else 'packed'}: {self.url}",
            f"  {sum(self.tasks.values()):,} tasks ({splits}), {self.images:,} images",
        ]
        lines += [f"  {count:,} {note}" for note, count in self.notes.items()]
        lines += [f"  {count:,} refused: {reason}" for reason, count in self.refused.items()]
        return "\n".join(lines)


def pack(
    source: str,
    dest: str,
    *,
    size: int | None = None,
    seed: int = 0,
    split: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> PackSummary:
    """Pack the images of `source` as a data set at `dest`.

    A task as a whole goes to train, val or test, so that val and test hold nothing but tasks that
    training never saw. Nothing outside of the source's folder is read: no symbolic link and no
    path in a table leads out of it. What is refused is reported on stderr, and the run goes on.
    When packing fails or is interrupted, what it wrote is removed; what a killed run left behind
    is removed by the next.

    Args:
        source: a folder with one folder of images for each task, these perhaps within folders
            named train, val and test; or a .csv or .parquet table with columns path (relative to
            the table) and task, perhaps split, and metadata to be kept; or 'glyphs', the built-in
            set (for a folder of that name, write './glyphs'). Any fsspec URL.
        dest: the folder to write; any fsspec URL.
        size: crop all images to squares of this many pixels a side; None keeps them as they are
            (glyphs are then drawn at 28).
        seed: decides, with a task's name, the split of tasks to which the source gives none.
        split: the shares of those tasks for train, val and test; they sum to 1.

    Raises:
        UserError: when there is nothing to pack, `dest` holds another data set already, or
            either cannot be reached.
    """
    if len(split) != 3 or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
        raise UserError(
            f"split {split} must be three shares, for train, val and test, summing to 1."
        )
    _refuse_overlap(source, dest)
    opened = open_source(source, size)
    options = {"size": size, "seed": seed, "split": list(split), "format": _FORMAT}
    fingerprint = _sha256(json.dumps([opened.identity, options]).encode())
    target = _Target(dest, opened.columns)
    before = target.packed_before()
    if before is not None and before.get("fingerprint") == fingerprint:
        return PackSummary(dest, **before["summary"], already_packed=True)
    if before is not None:
        raise UserError(
            f"{dest} already holds a data set that was packed from another source or with other "
            "options; choose another DEST, or remove that data set first."
        )
    target.clear()
    splits = assign_splits(opened.splits, seed, split)
    tally = _Tally(Progress("packing", sum(opened.counts.values())))
    try:
        for row in _rows(opened, splits, size, tally):
            target.add(row)
        summary = tally.summary(source, splits)
        target.commit({"fingerprint": fingerprint, "summary": summary})
    except BaseException:
        with suppress(Exception):
            target.clear()
        raise
    return PackSummary(dest, **summary)


def assign_splits(
    tasks: Mapping[str, str | None], seed: int, shares: tuple[float, float, float]
) -> dict[str, str]:
    """The split of every task: the one given, else by the rank of a hash of seed and name.

    val and test get their rounded shares, but at least one task each where there are three or
    more; train gets the rest.

    Args:
        tasks: every task's name and the split that it is given, or None.
        seed: another seed, another assignment.
        shares: of train, val and test, summing to 1.
    """
    free = sorted(
        (name for name, given in tasks.items() if given is None),
        key=lambda name: _sha256(f"{seed}/{name}".encode()),
    )
    least = 1 if len(free) >= 3 else 0
    val, test = (max(round(share * len(free)), least if share else 0) for share in shares[1:])
    drawn = ["val"] * val + ["test"] * test + ["train"] * len(free)
    given = {name: split for name, split in tasks.items() if split}
    return given | dict(zip(free, drawn, strict=False))


class _Tally:
    """Counts what becomes of the images, and tells the user of those that are refused."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.kept = Counter[str]()
        self.notes = Counter[str]()
        self.refused = Counter[str]()

    def refuse(self, name: str, error: BadImage) -> None:
        self.refused[error.reason] += 1
        if error.reason != _NOT_AN_IMAGE:
            # repr: a file name may hold control characters that would act on a terminal.
            self.progress.say(f"refused {name!r}: {error}")

    def summary(self, source: str, splits: Mapping[str, str]) -> dict[str, Any]:
        """The fields of `PackSummary`, but for where and when."""
        self.progress.close()
        if not self.kept:
            raise UserError(
                f"no image in {source} could be kept, for the reasons above; "
                "replace those files, or name another SOURCE."
            )
        tasks = Counter(splits[task] for task in self.kept)
        return {
            "tasks": {split: tasks[split] for split in SPLITS},
            "images": self.kept.total(),
            "notes": dict(sorted(self.notes.items())),
            "refused": dict(sorted(self.refused.items())),
        }


def _rows(
    source: "Source", splits: Mapping[str, str], size: int | None, tally: _Tally
) -> Iterator[dict[str, Any]]:
    """The rows of the data set, one task after the other; what is refused is left out."""
    for name, error in source.refused:
        tally.refuse(name, error)
    starts = dict(zip(source.counts, accumulate(source.counts.values(), initial=0), strict=False))
    for task, raws in groupby(source.images, key=lambda raw: raw.task):
        for done, raw in enumerate(raws, start=starts[task]):
            tally.progress.update(done)
            try:
                image = normalise(raw.read(), size)
            except BadImage as error:
                tally.refuse(raw.name, error)
                continue
            yield {
                "task": task,
                "index": tally.kept[task],
                "image": image.data,
                "width": image.width,
                "height": image.height,
                "split": splits[task],
                **raw.metadata,
            }
            tally.kept[task] += 1
            tally.notes.update(image.notes)


class _Target:
    """Writes shards, each whole at once, and the manifest last: that commits the data set."""

    def __init__(self, url: str, columns: Iterable[str]) -> None:
        self._url = url
        self._fs, self._root = filesystem_of(url)
        self._schema = pa.schema([*_SCHEMA, *((column, pa.string()) for column in columns)])
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

    def clear(self) -> None:
        """Remove what an attempt wrote, this one or one that was killed; the manifest first."""
        with reaching(self._url):
            if self._fs.exists(self._root):
                paths = self._fs.ls(self._root, detail=False)
                for path in sorted(paths, reverse=True):
                    if _WRITTEN.fullmatch(posixpath.basename(path)):
                        self._fs.rm_file(path)

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
            digest = _sha256(memoryview(data)[offset:end])
            count = footer.row_group(i).num_rows
            groups.append(RowGroup(task, split, self.name, i, offset, length, count, digest))
        return data, groups, _sha256(memoryview(data)[end:])


def _extent(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Where a row group begins in its file, and how many bytes it has."""
    columns = [group.column(i) for i in range(group.num_columns)]
    begins = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
    return begins, sum(column.total_compressed_size for column in columns)


def _sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


class RawImage(NamedTuple):
    """An image not yet read: its task, what messages call it, how to read it, and metadata."""

    task: str
    name: str
    read: Callable[[], bytes]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """What is to be packed, with no image read yet.

    Attributes:
        splits: every task there may be, sorted, and the split that the source gives it, or None.
        counts: how many images it may have at most, in the same order.
        images: all of them, sorted by task.
        columns: the metadata that each image has.
        identity: changes when what would be packed changes.
        refused: files that are no candidates, and why.
    """

    splits: Mapping[str, str | None]
    counts: Mapping[str, int]
    images: Iterable[RawImage]
    columns: tuple[str, ...]
    identity: str
    refused: list[tuple[str, BadImage]]


class _Entry(NamedTuple):
    """An image file as a folder or a table has it; `path` is relative to the folder or table."""

    task: str
    path: str
    split: str | None
    metadata: Mapping[str, str]


def open_source(source: str, size: int | None) -> Source:
    """List what there is to pack.

    Raises:
        UserError: when the source cannot be reached, is of no known kind, or has no task.
    """
    if source == GLYPHS:
        return _glyph_source(GLYPH_SIZE if size is None else size)
    fs, path = filesystem_of(source)
    with reaching(source):
        found = fs.isfile(path) if _is_table(source) else fs.isdir(path)
    if not found:
        kind = "table" if _is_table(source) else "folder"
        raise UserError(f"there is no {kind} at {source}; check the path of SOURCE.")
    return (
        _table_source(fs, path, source) if _is_table(source) else _folder_source(fs, path, source)
    )


def _table_source(fs: AbstractFileSystem, path: str, source: str) -> Source:
    with reaching(source):
        data = read_bytes(fs, path)
    entries, refused = _table_entries(_table_rows(data, source), source)
    return _file_source(fs, posixpath.dirname(path), entries, refused, {}, source)


def _folder_source(fs: AbstractFileSystem, root: str, source: str) -> Source:
    with reaching(source):
        listing = fs.find(root, detail=True)
    assert isinstance(listing, dict)  # By `detail`; fsspec's own types leave it open.
    sizes = {file.removeprefix(root).lstrip("/"): info["size"] for file, info in listing.items()}
    entries, refused = _folder_entries(sizes, source)
    return _file_source(fs, root, entries, refused, sizes, source)


def _file_source(
    fs: AbstractFileSystem,
    root: str,
    entries: list[_Entry],
    refused: list[tuple[str, BadImage]],
    sizes: Mapping[str, int],
    source: str,
) -> Source:
    if not entries:
        raise UserError(
            f"no task found in {source}; put the images of each task in a folder of its own (no "
            "link to one), or name a .csv or .parquet table with the columns path and task."
        )
    listed = [(entry, sizes.get(entry.path)) for entry in entries]
    return Source(
        splits=_given_splits(entries, source),
        counts=Counter(entry.task for entry in entries),
        images=(
            RawImage(e.task, e.path, partial(_read, fs, root, e.path), e.metadata) for e in entries
        ),
        columns=tuple(entries[0].metadata),
        identity=_sha256(json.dumps(listed).encode()),
        refused=refused,
    )


def _glyph_source(size: int) -> Source:
    tasks = glyph_tasks()
    return Source(
        splits=dict.fromkeys(tasks),
        counts={name: len(glyphs) for name, glyphs in tasks.items()},
        images=(
            RawImage(name, f"{name} of {source}", lambda png=png: png, {"source": source})
            for name, images in glyph_images(size)
            for source, png in images
        ),
        columns=("source",),
        identity=_sha256(b"".join(font.read_bytes() for font in glyph_fonts())),
        refused=[],
    )


def _folder_entries(
    paths: Iterable[str], source: str
) -> tuple[list[_Entry], list[tuple[str, BadImage]]]:
    """Which task each file belongs to: that of its first folder, or second below a split's."""
    refused: list[tuple[str, BadImage]] = []
    candidates: list[str] = []
    for path in paths:
        if _looks_like_an_image(path):
            candidates.append(path)
        else:
            refused.append((path, BadImage(_NOT_AN_IMAGE)))
    tops = {path.partition("/")[0] for path in candidates if "/" in path}
    depth = 1 if tops and tops <= set(SPLITS) else 0
    if not depth and "train" in tops and all(path.count("/") >= 2 for path in candidates):
        raise UserError(
            f"{source} has folders of tasks in {', '.join(sorted(tops))}; "
            f"the folders of splits must be named {', '.join(SPLITS)}."
        )
    entries: list[_Entry] = []
    for path in candidates:
        parts = path.split("/")
        if len(parts) < depth + 2:
            refused.append((path, BadImage("not in a task's folder")))
        elif re.search("[\ud800-\udfff]", path):
            refused.append((path, BadImage("its name is not UTF-8")))
        else:
            entries.append(_Entry(parts[depth], path, parts[0] if depth else None, {}))
    return sorted(entries, key=lambda entry: entry[:2]), refused


def _looks_like_an_image(path: str) -> bool:
    pure = PurePosixPath(path)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in pure.parts)
    return not hidden and _IMAGE_SUFFIX.fullmatch(pure.suffix.lower()) is not None


def _is_table(source: str) -> bool:
    return source.lower().endswith((".csv", ".parquet"))


def _table_rows(data: bytes, source: str) -> list[dict[str, str]]:
    """The rows of a table with every value as text, for '007' is a name and not a number."""
    rows: list[dict[str, Any]]
    try:
        if source.lower().endswith(".parquet"):
            rows = pq.read_table(pa.BufferReader(data)).to_pylist()
        else:
            text = io.StringIO(data.decode("utf-8-sig"), newline="")
            rows = [dict(row) for row in csv.DictReader(text, restkey="", restval="")]
    except (pa.ArrowException, csv.Error, ValueError, OSError) as error:
        raise UserError(f"{source} cannot be read as a table ({error}); mend it.") from error
    return [{k: "" if v is None else str(v) for k, v in row.items() if k} for row in rows]


def _table_entries(
    rows: list[dict[str, str]], source: str
) -> tuple[list[_Entry], list[tuple[str, BadImage]]]:
    """The entries of a table, sorted by task and, within a task, in the table's order."""
    columns = list(rows[0]) if rows else ["path", "task"]
    for needed in ("path", "task"):
        if needed not in columns:
            hint = did_you_mean(needed, columns)
            raise UserError(f"{source} has no column '{needed}', only {', '.join(columns)}{hint}.")
    free = [column for column in columns if column not in ("path", "task", "split")]
    if taken := set(free) & set(_SCHEMA.names):
        raise UserError(f"{source} has a column '{min(taken)}', a name that we need: rename it.")
    entries: dict[tuple[str, str], _Entry] = {}
    refused: list[tuple[str, BadImage]] = []
    for row in rows:
        path, task, split = row["path"], row["task"], row.get("split") or None
        if split not in (None, *SPLITS):
            raise UserError(f"{source}: '{split}' of {path} must be one of {', '.join(SPLITS)}.")
        if not task:
            refused.append((path, BadImage("no task")))
        elif (task, path) in entries:
            refused.append((path, BadImage("listed twice")))
        else:
            metadata = {column: row[column] for column in free}
            entries[task, path] = _Entry(task, path, split, metadata)
    return sorted(entries.values(), key=lambda entry: entry.task), refused


def _given_splits(entries: list[_Entry], source: str) -> dict[str, str | None]:
    splits: dict[str, str | None] = {}
    for entry in entries:
        if splits.setdefault(entry.task, entry.split) != entry.split:
            raise UserError(
                f"task '{entry.task}' of {source} is in two splits, but one must hold out whole "
                "tasks; give each task one split, or none to have them drawn by the seed."
            )
    return splits


def _read(fs: AbstractFileSystem, root: str, name: str) -> bytes:
    """The bytes of an image file, which must lie within `root` once its links are followed."""
    path = posixpath.join(root, name)
    if not _is_within(fs, root, path):
        raise BadImage("leads out of the source's folder")
    if isinstance(fs, LocalFileSystem) and not os.access(path, os.R_OK):
        raise BadImage("cannot be read")
    try:
        with reaching(path):
            info = fs.info(path)
            # A named pipe would keep us waiting for ever.
            if info["type"] == "file" and (info["size"] or 0) <= MAX_FILE_BYTES:
                return read_bytes(fs, path)
    except MissingError as error:
        raise BadImage("cannot be read") from error
    if info["type"] != "file":
        raise BadImage("not a file")
    raise BadImage("huge", f"{info['size']:,} bytes")


def _is_within(fs: AbstractFileSystem, root: str, path: str) -> bool:
    if isinstance(fs, LocalFileSystem):
        return Path(path).resolve().is_relative_to(Path(root).resolve())
    return PurePosixPath(posixpath.normpath(path)).is_relative_to(root)


def _refuse_overlap(source: str, dest: str) -> None:
    """Packing into the source would pack what was packed, or overwrite what is to be packed."""
    if source == GLYPHS:
        return
    (source_fs, path), (dest_fs, root) = filesystem_of(source), filesystem_of(dest)
    if _is_table(source):
        overlap = root == posixpath.dirname(path)
    else:
        overlap = PurePosixPath(root).is_relative_to(path)
    if overlap and type(source_fs) is type(dest_fs):
        raise UserError(f"DEST {dest} lies in SOURCE {source}; choose a DEST outside of it.")
