"""Folders of images with tables beside them: `imagefolder`, as Hugging Face's datasets has it."""

import posixpath

from metatrain.base.errors import UserError
from metatrain.base.text import listed, printable
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.names import is_image_name, is_passed_over, split_named
from metatrain.data.packing.sources.folders import Folders
from metatrain.data.packing.sources.listing import ListedImage, Listing, Options
from metatrain.data.packing.sources.rows import Row, column_of, list_rows, read_table
from metatrain.data.packing.sources.tables import TASKS

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_PATHS = ("file_name", "path")


class ImageFolder:
    """Images with a metadata.csv or .jsonl, of the whole or of each split."""

    description = "a folder or archive of images with a metadata.csv or .jsonl (imagefolder)"
    endings = ()

    def recognises(self, files: Container) -> bool:
        """Tell whether there are images, and a table of them."""
        return bool(_tables(files)) and any(is_image_name(name) for name in files.sizes)

    def listing(self, files: Container, options: Options) -> Listing:
        """List the images of all tables: the task is a column, or else their folder.

        Raises:
            UserError: when a table cannot be read, or the tasks are not clear.
        """
        tables = {name: read_table(files, name) for name in _tables(files)}
        columns = list(
            dict.fromkeys(c for rows in tables.values() for row in rows[:1] for c in row)
        )
        tasks = [options.task_column] if options.task_column else TASKS
        if options.task_column or set(tasks) & set(columns):
            return _by_column(tables, columns, files, options)
        return _by_folder(tables, columns, files, options)


def _tables(files: Container) -> list[str]:
    return sorted(
        name
        for name in files.sizes
        if posixpath.basename(name).lower() in _METADATA and not is_passed_over(name)
    )


def _by_column(
    tables: dict[str, list[Row]], columns: list[str], files: Container, options: Options
) -> Listing:
    result = Listing(read_file=files.read, refused=list(files.refused))
    for name, rows in tables.items():
        folder = posixpath.dirname(name)
        splits = [s for part in folder.split("/") if (s := split_named(part))]
        listing = list_rows(
            [dict.fromkeys(columns, "") | row for row in rows],
            files,
            path=column_of(columns, options.path_column, _PATHS, "--path-column", name),
            task=column_of(columns, options.task_column, TASKS, "--task-column", name),
            where=files.place_of(name),
            folder=folder,
            split=splits[0] if splits else None,
        )
        result.entries += listing.entries
        result.refused += listing.refused
    return result


def _by_folder(
    tables: dict[str, list[Row]], columns: list[str], files: Container, options: Options
) -> Listing:
    """List the images by their folders, with the other columns as metadata."""
    path = column_of(columns, options.path_column, _PATHS, "--path-column", next(iter(tables)))
    free = [column for column in columns if column != path]
    described = {
        posixpath.normpath(posixpath.join(posixpath.dirname(name), row.get(path, ""))): row
        for name, rows in tables.items()
        for row in rows
    }
    try:
        result = Folders().listing(files, options)
    except UserError as error:
        raise UserError(
            f"{error} Or give --task-column, one of the columns of "
            f"{printable(next(iter(tables)))}, which are {listed(columns)}."
        ) from error
    result.entries = [
        _described(entry, described.get(entry.name, {}), free) for entry in result.entries
    ]
    return result


def _described(entry: ListedImage, row: Row, columns: list[str]) -> ListedImage:
    beside = entry.metadata
    described = {column: row.get(column) or beside.get(column, "") for column in columns}
    return entry._replace(metadata={**beside, **described})
