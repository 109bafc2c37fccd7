"""Parquet files with images inside, as Hugging Face's datasets has them, or with their paths."""

import posixpath
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from metatrain.base.errors import UserError
from metatrain.base.text import listed
from metatrain.data.packed.writer import IMAGE_SCHEMA
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.names import is_image_name, is_passed_over, split_named, split_of_shard
from metatrain.data.packing.raw_images import identity_of
from metatrain.data.packing.sources.listing import ListedImage, Listing, Options
from metatrain.data.packing.sources.parquet_files import BATCH_ROWS, open_parquet, readable
from metatrain.data.packing.sources.rows import column_of, given_split, json_object, read_table
from metatrain.data.packing.sources.tables import TASKS, list_table
from metatrain.data.packing.spool import Spool

_ENDING = ".parquet"
_HUGGING_FACE = b"huggingface"


class Parquet:
    """Parquet files with a column of images, or one with a column of paths."""

    description = "a .parquet file, or a folder of them, with images and labels (Hugging Face)"
    endings = (_ENDING,)

    def recognises(self, files: Container) -> bool:
        """Tell whether there are Parquet files, and no images beside them."""
        return bool(_shards(files)) and not any(
            is_image_name(name) and posixpath.splitext(name)[1] for name in files.sizes
        )

    def listing(self, files: Container, options: Options) -> Listing:
        """List the images in all files.

        Raises:
            UserError: when one cannot be read, or its images or tasks are not clear.
        """
        shards = _shards(files)
        result = Listing(refused=list(files.refused), read_file=files.read)
        for name in shards:
            where, shard = files.place_of(name), open_parquet(files, name)
            with readable(where):
                image = _image_column(shard.schema_arrow, options.path_column, where)
                if image:
                    result.entries += _Shard(files, name, shard, image, options).entries()
            if not image and len(shards) == 1:
                return list_table(read_table(files, name), files, name, options)
        if not result.entries:
            raise UserError(
                f"{files.url} has {listed(shards[:3])} without a column of images; name it by "
                f"--path-column, or pack one table of paths by itself."
            )
        _complete(result.entries)
        return result


def _shards(files: Container) -> list[str]:
    names = (n for n in files.sizes if n.lower().endswith(_ENDING) and not is_passed_over(n))
    return sorted(names)


def _image_column(schema: pa.Schema, choice: str | None, where: str) -> str | None:
    """Return the column that has images: bytes, or structs of bytes and path; or None."""
    columns = {field.name for field in schema if _is_image(field)}
    if choice is not None:
        return choice if choice in columns else None
    if len(columns) > 1 and "image" not in columns:
        raise UserError(
            f"{where} has the images {listed(sorted(columns))}; choose one by --path-column."
        )
    return "image" if "image" in columns else next(iter(columns), None)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_image(field: pa.Field) -> bool:
    if pa.types.is_struct(field.type):
        return any(part.name == "bytes" and _is_bytes(part.type) for part in field.type)
    return field.name == "image" and _is_bytes(field.type)


class _Shard:
    """One Parquet file with images.

    Args:
        files: it is one of them.
        name: its name.
        shard: its content.
        image: the column of images.
        options: the user's.
    """

    def __init__(
        self, files: Container, name: str, shard: pq.ParquetFile, image: str, options: Options
    ) -> None:
        self._files, self._name, self._shard, self._image = files, name, shard, image
        self._where = files.place_of(name)
        columns = [c for c in shard.schema_arrow.names if c != image]
        self._task = column_of(columns, options.task_column, TASKS, "--task-column", self._where)
        self._labels = _labels(shard.schema_arrow, self._task)
        self._metadata = [
            f.name
            for f in shard.schema_arrow
            if f.name not in (image, self._task, "split", *IMAGE_SCHEMA.names)
            and not (_is_bytes(f.type) or pa.types.is_struct(f.type))
        ]
        folders = posixpath.dirname(name).split("/")
        named = [split for part in folders if (split := split_named(part))]
        self._split = split_of_shard(name) or next(iter(named), None)

    def entries(self) -> Iterator[ListedImage]:
        """Yield the images, which lie in a temporary file from then on."""
        spool = Spool(self._where, sum(self._row_group_bytes()))
        split = {"split"} & set(self._shard.schema_arrow.names)
        columns = [self._image, self._task, *self._metadata, *split]
        number = 0
        for batch in self._shard.iter_batches(BATCH_ROWS, columns=columns):
            for row in batch.to_pylist():
                yield self._entry(row, f"{self._name}, row {number}", spool)
                number += 1

    def _row_group_bytes(self) -> Iterator[int]:
        metadata = self._shard.metadata
        for group in range(metadata.num_row_groups):
            columns = (metadata.row_group(group).column(i) for i in range(metadata.num_columns))
            yield sum(column.total_compressed_size for column in columns)

    def _entry(self, row: Mapping[str, Any], name: str, spool: Spool) -> ListedImage:
        value = row[self._image]
        value = value if isinstance(value, dict) else {"bytes": value}
        path = value.get("path") or ""
        if value.get("bytes") is None:
            read = partial(self._files.read, posixpath.join(posixpath.dirname(self._name), path))
            stamp: Any = path
        else:
            read = spool.reader(spool.write([value["bytes"]]))
            stamp = identity_of(value["bytes"])
        label = row[self._task]
        task = self._labels.get(label, label) if isinstance(label, int) else label
        return ListedImage(
            "" if task is None else str(task),
            f"{name} ({path})" if path else name,
            given_split(str(row.get("split") or ""), name, self._where) or self._split,
            {c: "" if row[c] is None else str(row[c]) for c in self._metadata},
            read,
            stamp,
        )


def _labels(schema: pa.Schema, column: str) -> dict[Any, str]:
    """Return the names of labels that Hugging Face's datasets keeps with a schema."""
    try:
        features = json_object((schema.metadata or {})[_HUGGING_FACE].decode())["info"]["features"]
        return dict(enumerate(str(name) for name in features[column]["names"]))
    except (LookupError, ValueError, TypeError, RecursionError):
        return {}


def _complete(entries: list[ListedImage]) -> None:
    """Give every entry the metadata columns of all."""
    keys = list(dict.fromkeys(key for entry in entries for key in entry.metadata))
    entries[:] = [e._replace(metadata=dict.fromkeys(keys, "") | dict(e.metadata)) for e in entries]
