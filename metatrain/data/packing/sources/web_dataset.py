"""WebDataset: tar shards whose files of one key, such as 7.jpg and 7.cls, are one sample."""

import posixpath
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.names import is_image_name, is_passed_over, split_of_shard
from metatrain.data.packing.sources.listing import ListedImage, Listing, Options
from metatrain.data.packing.sources.rows import check_values, column_of, given_split, json_object
from metatrain.data.packing.sources.tables import TASKS

# By a sample's key, the names of its files by their endings.
_Samples = dict[str, dict[str, str]]

_LABELS = ("cls", "txt", "json")
# Columns that a sample's files give besides those of its .json.
_CLASS, _TEXT = "cls", "txt"


class WebDataset:
    """Samples of an image and a .cls, .txt or .json of the same key."""

    description = "a .tar, or a folder of .tar shards, of images with .cls or .json (WebDataset)"
    endings = ()

    def recognises(self, files: Container) -> bool:
        """Tell whether most images have a label of the same key beside them."""
        return _are_labelled(_samples(files))

    def listing(self, files: Container, options: Options) -> Listing:
        """List the samples.

        Raises:
            UserError: when none has the column of tasks.
        """
        result = Listing(refused=list(files.refused))
        rows = {key: _row(files, parts) for key, parts in _samples(files).items()}
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        try:
            check_values(len(rows), len(columns), sum(files.sizes.values()))
        except ValueError as error:
            raise UserError(f"{files.url} cannot be packed: {error}; mend its .json.") from error
        usual = (_CLASS, *TASKS)
        task = column_of(columns, options.task_column, usual, "--task-column", files.url)
        free = [c for c in columns if c not in (task, "split")]
        for key, parts in _samples(files).items():
            row, name = rows[key], _image(parts)
            split = given_split(row.get("split"), name, files.url) or split_of_shard(
                key.partition("/")[0]
            )
            metadata = {column: row.get(column, "") for column in free}
            read = partial(files.read, name)
            result.entries.append(
                ListedImage(row.get(task, ""), name, split, metadata, read, files.sizes[name])
            )
        if not any(entry.task for entry in result.entries):
            raise UserError(f"no task found in {files.url}; name their column by --task-column.")
        return result


def _samples(files: Container) -> _Samples:
    """Return the files of each sample with an image: their names by ending, by the sample's key.

    A key ends at the first dot of a name, as WebDataset has it (7.rgb.png), or else at the last
    one, as in names with numbers (22.05.png).
    """
    by_first = _grouped(files, lambda name: name.partition("."))
    return by_first if _are_labelled(by_first) else _grouped(files, lambda n: n.rpartition("."))


def _grouped(files: Container, divide: Callable[[str], tuple[str, str, str]]) -> _Samples:
    samples: _Samples = {}
    for name in files.sizes:
        folder, base = posixpath.split(name)
        if "." in base and not is_passed_over(name):
            key, _, ending = divide(base)
            samples.setdefault(posixpath.join(folder, key), {})[ending.lower()] = name
    return {key: parts for key, parts in samples.items() if _image(parts)}


def _are_labelled(samples: _Samples) -> bool:
    labelled = sum("cls" in parts or "json" in parts for parts in samples.values())
    return 2 * labelled > len(samples)


def _image(parts: Mapping[str, str]) -> str:
    """Return the name of a sample's image, or ''."""
    return next((name for end, name in parts.items() if end and is_image_name(name)), "")


def _row(files: Container, parts: Mapping[str, str]) -> dict[str, str]:
    return dict(_values(files, parts))


def _values(files: Container, parts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for ending in _LABELS:
        if ending not in parts:
            continue
        try:
            text = files.read(parts[ending]).decode()
            if ending != "json":
                yield ending, text.strip()
                continue
            for column, value in json_object(text).items():
                if isinstance(value, str | int | float):
                    yield column, str(value)
        except (BadImage, ValueError, RecursionError) as error:
            raise UserError(
                f"{files.place_of(parts[ending])} cannot be read ({error}); mend it."
            ) from error
