"""Rows of tables, and the images that they name."""

import codecs
import csv
import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from metatrain.base.errors import UserError, did_you_mean
from metatrain.base.text import listed, printable
from metatrain.data.images import BadImage
from metatrain.data.packed.manifest import SPLITS
from metatrain.data.packed.writer import IMAGE_SCHEMA
from metatrain.data.packing.containers.container import MAX_FILE_BYTES, Container
from metatrain.data.packing.names import split_named
from metatrain.data.packing.sources.listing import ListedImage, Listing
from metatrain.data.packing.sources.parquet_files import BATCH_ROWS, open_parquet, readable

_SEPARATORS = ",;\t|"
# Values of a table, which take a byte each where none is left out.
_MOST_VALUES, _VALUES_A_BYTE = 1_000_000, 4

Row = dict[str, str]


def read_table(files: Container, name: str) -> list[Row]:
    """Read a table, with every value as text: '007' is a name and not a number.

    Raises:
        UserError: when it cannot be read, or has two columns of one name.
    """
    where = files.place_of(name)
    if name.lower().endswith(".parquet"):
        return _parquet_rows(files, name)
    try:
        data = files.read(name)
    except BadImage as error:
        raise UserError(f"there is no table at {where} ({error}); check the path.") from error
    try:
        header, rows = _parse(data, name.lower())
        _check_columns(header, where)
        table: list[Row] = []
        for row in rows:
            check_values(len(table), len(header), len(data))
            table.append({key: _text(value) for key, value in row.items() if key})
        return table
    except UserError:
        raise
    except (csv.Error, ValueError, OSError, RecursionError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(f"{where} cannot be read as a table ({reason}); mend it.") from error


def _parquet_rows(files: Container, name: str) -> list[Row]:
    where, table = files.place_of(name), open_parquet(files, name)
    rows: list[Row] = []
    with readable(where):
        _check_columns(table.schema_arrow.names, where)
        size = 0
        for batch in table.iter_batches(BATCH_ROWS):
            size += batch.nbytes
            if size > MAX_FILE_BYTES:
                raise ValueError(f"its texts have more than {MAX_FILE_BYTES:,} bytes")
            rows += ({key: _text(v) for key, v in row.items() if key} for row in batch.to_pylist())
    return rows


def _check_columns(header: Sequence[str], where: str) -> None:
    twice = next((name for name, count in Counter(header).items() if name and count > 1), None)
    if twice:
        raise UserError(f"{where} has two columns '{printable(twice)}'; rename or remove one.")


def check_values(rows: int, columns: int, size: int) -> None:
    """Refuse a table of `size` bytes that is nearly empty: what a row leaves out takes memory too.

    Raises:
        ValueError: when it has far more values than bytes.
    """
    if rows * columns > _MOST_VALUES + _VALUES_A_BYTE * size:
        raise ValueError(f"its {columns:,} columns are empty in nearly all of its rows")


def _parse(data: bytes, name: str) -> tuple[list[str], Iterable[Mapping[str, Any]]]:
    text = _decoded(data)
    if name.endswith(".jsonl"):
        # Not splitlines: the texts of JSON may have any other character that ends a line.
        rows = [json_object(line) for line in text.split("\n") if line.strip()]
        keys = list(dict.fromkeys(key for row in rows for key in row))
        return keys, (dict.fromkeys(keys) | row for row in rows)
    separator = "\t" if name.endswith(".tsv") else _separator(text)
    lines = io.StringIO(text, newline="")
    header = next(csv.reader(lines, delimiter=separator), [])
    return header, csv.DictReader(lines, header, restkey="", restval="", delimiter=separator)


def _decoded(data: bytes) -> str:
    # Excel's "Unicode Text" is UTF-16.
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("its text is not UTF-8") from error


def _separator(text: str) -> str:
    """Return the separator of a table: the one that its header has most of."""
    header = text.lstrip("\r\n").partition("\n")[0]
    return max(_SEPARATORS, key=lambda s: len(next(csv.reader([header], delimiter=s), [])))


def json_object(text: str) -> dict[str, Any]:
    """Parse an object of JSON whose texts a file can hold.

    Raises:
        ValueError: when it is none, or has halves of characters.
        RecursionError: when it is nested too deeply.
    """
    row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError(f"a line is no object: {text[:40]}")
    json.dumps(row, ensure_ascii=False).encode()
    return row


def _text(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def column_of(
    columns: Sequence[str], choice: str | None, usual: Sequence[str], option: str, where: str
) -> str:
    """Return the column of this meaning.

    Args:
        columns: those that there are.
        choice: the user's, or None.
        usual: names that it may have otherwise, the likeliest first.
        option: the option that chooses it, such as --task-column.
        where: the table, for messages.

    Raises:
        UserError: when there is none.
    """
    names = [choice] if choice else usual
    column = next((name for name in names if name in columns), None)
    if column is None:
        hint = did_you_mean(names[0], list(columns))
        raise UserError(
            f"{where} has no column '{names[0]}', only {listed(columns)}"
            f"{hint or '.'}{'' if choice else f' Name it by {option}.'}"
        )
    return column


def given_split(text: str | None, name: str, where: str) -> str | None:
    """Return the split that a table gives the image `name`, in any usual spelling.

    Raises:
        UserError: when it is none.
    """
    if not text:
        return None
    if split := split_named(text):
        return split
    text, name = printable(text), printable(name)
    raise UserError(f"{where}: '{text}' of {name} must be one of {', '.join(SPLITS)}.")


def list_rows(
    rows: Sequence[Row],
    files: Container,
    *,
    path: str,
    task: str,
    where: str,
    folder: str = "",
    split: str | None = None,
) -> Listing:
    """List the images that the rows of a table name.

    Args:
        rows: with the same columns each.
        files: those that the paths name.
        path: the column of paths.
        task: the column of tasks.
        where: the table, for messages.
        folder: the folder within `files` that paths start from.
        split: of rows that do not give one.

    Raises:
        UserError: when a column has a name that packed data has already.
    """
    free = [c for c in (rows[0] if rows else ()) if c not in (path, task, "split")]
    if reserved := set(free) & set(IMAGE_SCHEMA.names):
        raise UserError(
            f"{where} has a column '{min(reserved)}', and packed data has another of that name; "
            f"rename it."
        )
    result = Listing(read_file=lambda name: files.read(posixpath.join(folder, name)))
    listed: set[tuple[str, str]] = set()
    for row in rows:
        name = posixpath.normpath(posixpath.join(folder, row[path])) if row[path] else ""
        one = given_split(row.get("split"), row[path], where) or split
        if (row[task], name) in listed:
            result.refused.append((row[path], BadImage("listed twice")))
            continue
        if "://" in row[path]:
            result.refused.append((row[path], BadImage("a URL: download it beside the table")))
            continue
        listed.add((row[task], name))
        metadata = {column: row[column] for column in free}
        read = partial(_read_named, files, name)
        result.entries.append(ListedImage(row[task], row[path], one, metadata, read, name))
    return result


def _read_named(files: Container, name: str) -> bytes:
    """Read a file that a table names, with backslashes perhaps if Windows wrote the table."""
    try:
        return files.read(name)
    except BadImage:
        if "\\" not in name:
            raise
        return files.read(posixpath.normpath(name.replace("\\", "/")))
