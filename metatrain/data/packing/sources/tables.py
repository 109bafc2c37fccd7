"""Tables that name the file and the task of each image."""

from metatrain.base.errors import UserError
from metatrain.data.packing.containers import open_container
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.sources.listing import Listing, Options
from metatrain.data.packing.sources.medical import with_slices
from metatrain.data.packing.sources.rows import Row, column_of, list_rows, read_table

PATHS, TASKS = ("path", "file_name"), ("task", "label")


class Tables:
    """A .csv, .tsv or .jsonl table of paths."""

    description = "a .csv, .tsv, .jsonl or .parquet table with the columns path and task"
    endings = (".csv", ".tsv", ".jsonl")

    def recognises(self, files: Container) -> bool:
        """Tell whether there is one file, and it is a table."""
        return len(files.sizes) == 1 and next(iter(files.sizes)).lower().endswith(self.endings)

    def listing(self, files: Container, options: Options) -> Listing:
        """List the images of the table.

        Raises:
            UserError: when it cannot be read, or lacks a column.
        """
        [name] = files.sizes
        return list_table(read_table(files, name), files, name, options)


def list_table(rows: list[Row], files: Container, name: str, options: Options) -> Listing:
    """List the images that the table `name` beside `files` names, or its copy elsewhere has.

    Raises:
        UserError: when it lacks a column, or has no row.
    """
    where = files.place_of(name)
    if not rows:
        raise UserError(f"no task found in {where}, for it has no row; add one for each image.")
    columns = list(rows[0])
    listing = list_rows(
        rows,
        open_container(options.root) if options.root else files,
        path=column_of(columns, options.path_column, PATHS, "--path-column", where),
        task=column_of(columns, options.task_column, TASKS, "--task-column", where),
        where=where,
    )
    return with_slices(listing, options)
