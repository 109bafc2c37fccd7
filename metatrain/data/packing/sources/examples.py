"""Images that Python hands over: pairs of a task and an image, and data sets of Hugging Face."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from metatrain.base.errors import UserError
from metatrain.data.packing.in_memory import encode
from metatrain.data.packing.names import split_named
from metatrain.data.packing.raw_images import Source, identity_of
from metatrain.data.packing.sources.assembly import source_of
from metatrain.data.packing.sources.listing import ListedImage, Listing, Options
from metatrain.data.packing.sources.rows import column_of
from metatrain.data.packing.sources.tables import TASKS
from metatrain.data.packing.spool import Spool

# Tasks and their images, a `datasets.Dataset`, or several of these by split.
Examples = Iterable[tuple[str, Any]] | Mapping[str, Any] | Any


def open_examples(examples: Examples, options: Options) -> Source:
    """Take over images, once and in order; they lie in a temporary file from then on.

    Args:
        examples: pairs of a task and an image: a PIL image, pixels, the path of a file or its
            bytes; or a `datasets.Dataset`; or several of either by the name of their split.
        options: the user's word on columns and splits.

    Raises:
        UserError: when it is something else, or holds no image.
    """
    parts = examples if isinstance(examples, Mapping) else {None: examples}
    spool, entries = Spool("the images"), list[ListedImage]()
    for name, part in parts.items():
        split = None if name is None else split_named(str(name))
        if name is not None and split is None:
            raise UserError(f"'{name}' is no split; name the splits train, val and test.")
        prefix = f"{name}, " if name else ""
        rows = _dataset_rows(part, options) if hasattr(part, "column_names") else _pairs(part)
        for number, (task, image, metadata) in enumerate(rows):
            label = f"{prefix}image {number} of task {task!r}"
            data = encode(image, label)
            read = spool.reader(spool.write([data]))
            entries.append(ListedImage(task, label, split, metadata, read, identity_of(data)))
    if not entries:
        raise UserError("there are no images to pack; give pairs of a task and an image.")
    return source_of(Listing(entries), "the images", options)


def _pairs(pairs: Any) -> Iterator[tuple[str, Any, Mapping[str, str]]]:
    if not isinstance(pairs, Iterable):
        raise UserError(
            f"a {type(pairs).__name__} is no source; give pairs of a task and an image."
        )
    for number, pair in enumerate(pairs):
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise UserError(f"item {number} is no pair of a task and an image; give (task, image).")
        yield str(pair[0]), pair[1], {}


def _dataset_rows(dataset: Any, options: Options) -> Iterator[tuple[str, Any, Mapping[str, str]]]:
    """Yield the rows of a `datasets.Dataset`, whose images stay as they are encoded."""
    features = dict(dataset.features or {})
    images = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    where = "the data set"
    image = column_of(images, options.path_column, images or ["image"], "--path-column", where)
    rest = [name for name in features if name != image]
    task = column_of(rest, options.task_column, TASKS, "--task-column", where)
    label = _label_of(features[task])
    dataset = dataset.cast_column(image, type(features[image])(decode=False))
    for row in dataset:
        value, metadata = row[image] or {}, {}
        for column in rest:
            if column != task and isinstance(row[column], str | int | float):
                metadata[column] = str(row[column])
        yield label(row[task]), value.get("bytes") or value.get("path"), metadata


def _label_of(feature: Any) -> Callable[[Any], str]:
    names = getattr(feature, "names", None)
    return partial(_named, names) if names else lambda value: "" if value is None else str(value)


def _named(names: list[str], value: int | None) -> str:
    return "" if value is None or value < 0 else names[value]
