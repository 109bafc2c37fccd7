"""Sources of images: folders, tables of paths, and the built-in benchmarks."""

import csv
import io
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from metatrain.base.errors import UserError, did_you_mean
from metatrain.data.images import BadImage
from metatrain.data.packed.manifest import SPLITS
from metatrain.data.packed.writer import IMAGE_SCHEMA
from metatrain.data.packing.built_in import BUILT_IN, open_built_in
from metatrain.data.packing.raw_images import RawImage, Source, identity_of
from metatrain.storage.files import MissingError, asking, filesystem_of, read_bytes

MAX_FILE_BYTES = 512_000_000
NOT_AN_IMAGE = "not an image"

# Unreadable formats are here too: the user should hear of an icon in SVG.
_IMAGE_SUFFIX = re.compile(
    r"(\.(a?png|jpe?g?|jfif|webp|gif|bmp|dib|tiff?|hei[cf]|avif|jxl|jp2|svg|ico|psd|tga|p[pgbn]m))?"
)


class _Entry(NamedTuple):
    """An image file of a folder or a table; `path` is relative to it."""

    task: str
    path: str
    split: str | None
    metadata: Mapping[str, str]


def open_source(source: str, size: int | None, variant: str | None = None) -> Source:
    """List the images of a source.

    Args:
        source: as in `metatrain.data.packing.pack.pack`.
        size: width and height of images that are rendered, in pixels.
        variant: a variant of a built-in source.

    Raises:
        UserError: when the source cannot be reached, is of no known kind, or has no task.
    """
    if variant or source in BUILT_IN:
        return open_built_in(source, size, variant)
    fs, path = filesystem_of(source)
    if is_table(source):
        return _table_source(fs, path, source)
    if not asking(source, lambda: fs.isdir(path)):
        raise UserError(f"there is no folder at {source}; check the path of SOURCE.")
    return _folder_source(fs, path, source)


def _table_source(fs: AbstractFileSystem, path: str, source: str) -> Source:
    try:
        data = asking(source, lambda: read_bytes(fs, path))
    except MissingError as error:
        raise UserError(f"there is no table at {source}; check the path of SOURCE.") from error
    entries, refused = _table_entries(_table_rows(data, source), source)
    return _file_source(fs, posixpath.dirname(path), entries, refused, {}, source)


def _folder_source(fs: AbstractFileSystem, root: str, source: str) -> Source:
    listing = asking(source, lambda: fs.find(root, detail=True))
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
    listed: dict[str, list[Any]] = {}
    for entry in entries:
        listed.setdefault(entry.task, []).append((entry, sizes.get(entry.path)))
    return Source(
        splits=_splits(entries, source),
        counts=Counter(entry.task for entry in entries),
        images=(
            RawImage(e.task, e.path, partial(_read, fs, root, e.path), e.metadata) for e in entries
        ),
        columns=tuple(entries[0].metadata),
        identities={
            name: identity_of(json.dumps(list_).encode()) for name, list_ in listed.items()
        },
        refused=refused,
        read_file=partial(_read, fs, root),
    )


def _folder_entries(
    paths: Iterable[str], source: str
) -> tuple[list[_Entry], list[tuple[str, BadImage]]]:
    """Find the task of each file: its first folder, or its second where the first is a split."""
    refused: list[tuple[str, BadImage]] = []
    candidates: list[str] = []
    for path in paths:
        if _looks_like_an_image(path):
            candidates.append(path)
        else:
            refused.append((path, BadImage(NOT_AN_IMAGE)))
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


def is_table(source: str) -> bool:
    """Return whether `source` names a table rather than a folder."""
    return source.lower().endswith((".csv", ".parquet"))


def _table_rows(data: bytes, source: str) -> list[dict[str, str]]:
    """Parse a table, with every value as text: '007' is a name and not a number."""
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
    """Return the entries of a table, sorted by task and, within a task, in the table's order."""
    columns = list(rows[0]) if rows else ["path", "task"]
    for needed in ("path", "task"):
        if needed not in columns:
            hint = did_you_mean(needed, columns)
            raise UserError(f"{source} has no column '{needed}', only {', '.join(columns)}{hint}.")
    free = [column for column in columns if column not in ("path", "task", "split")]
    if reserved := set(free) & set(IMAGE_SCHEMA.names):
        raise UserError(
            f"{source} has a column '{min(reserved)}', and packed data has another of that name; "
            f"rename it."
        )
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


def _splits(entries: list[_Entry], source: str) -> dict[str, str | None]:
    splits: dict[str, str | None] = {}
    for entry in entries:
        if splits.setdefault(entry.task, entry.split) != entry.split:
            raise UserError(
                f"task '{entry.task}' of {source} is in two splits, but one must hold out whole "
                "tasks; give each task one split, or none to have the seed decide."
            )
    return splits


def _read(fs: AbstractFileSystem, root: str, name: str) -> bytes:
    """Read an image file, which must lie within `root` after its links are followed."""
    path = posixpath.join(root, name)
    if not _is_within(fs, root, path):
        raise BadImage("leads out of the source's folder")
    if isinstance(fs, LocalFileSystem) and not os.access(path, os.R_OK):
        raise BadImage("cannot be read")
    try:
        info = asking(path, lambda: fs.info(path))
        # Reading a named pipe would never end.
        if info["type"] == "file" and (info["size"] or 0) <= MAX_FILE_BYTES:
            return asking(path, lambda: read_bytes(fs, path))
    except MissingError as error:
        raise BadImage("cannot be read") from error
    if info["type"] != "file":
        raise BadImage("not a file")
    raise BadImage("huge", f"{info['size']:,} bytes")


def _is_within(fs: AbstractFileSystem, root: str, path: str) -> bool:
    if isinstance(fs, LocalFileSystem):
        return Path(path).resolve().is_relative_to(Path(root).resolve())
    return PurePosixPath(posixpath.normpath(path)).is_relative_to(root)
