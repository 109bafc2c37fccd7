"""Tasks that a data set has already, to which a source may add images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.fingerprint import Fingerprint, fingerprint_of
from metatrain.data.images import BadImage, open_packed
from metatrain.data.packed.manifest import RowGroup
from metatrain.storage.files import asking, filesystem_of

# Columns of a row that say where it is, or are compared as pixels.
_PLACE = ("task", "index", "image", "width", "height", "split")


class PackedImage(NamedTuple):
    """An image that is packed already."""

    fingerprint: Fingerprint
    values: Mapping[str, Any]


class PackedTask(NamedTuple):
    """A task of the data set that is there.

    Attributes:
        split: its split.
        images: its images, in their order.
    """

    split: str
    images: Sequence[PackedImage]

    @property
    def sources(self) -> dict[str, int]:
        """The index of the first image of each source."""
        firsts: dict[str, int] = {}
        for index, image in enumerate(self.images):
            if source := image.values.get("source"):
                firsts.setdefault(source, index)
        return firsts


def read_packed_task(url: str, groups: Iterable[RowGroup]) -> PackedTask:
    """Read a task of the data set at `url`, by its row groups in their order.

    Raises:
        UserError: when it cannot be read.
    """
    groups = list(groups)
    rows = [row for group in groups for row in _rows(f"{url}/{group.file}", group)]
    images = [
        PackedImage(
            fingerprint_of(open_packed(row["image"])),
            {column: value for column, value in row.items() if column not in _PLACE},
        )
        for row in rows
    ]
    return PackedTask(groups[0].split, images)


def _rows(url: str, group: RowGroup) -> Iterator[dict[str, Any]]:
    fs, path = filesystem_of(url)
    try:
        with asking(url, partial(fs.open, path, "rb")) as file:
            table = pq.ParquetFile(file).read_row_group(group.row_group)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{url} cannot be read ({error}); check that data set.") from error
    yield from table.to_pylist()


class TaskImages:
    """The images of one task that are packed, to keep each once.

    Args:
        task: its name.
        packed: the task as the data set has it, or None.
        url: the data set, for messages.

    Attributes:
        outlines: of the images that the data set has, and of those that were added since.
    """

    def __init__(self, task: str, packed: PackedTask | None, url: str) -> None:
        self._task, self._url = task, url
        self._packed = {i.fingerprint.pixels: i for i in packed.images} if packed else {}
        self._missing = set(self._packed)
        self.outlines = [i.fingerprint.outline for i in packed.images] if packed else []
        self._names: dict[bytes, str] = {}

    def add(self, name: str, fingerprint: Fingerprint, values: Mapping[str, Any]) -> bool:
        """Add an image, and tell whether it is new; one that is packed already is not.

        Raises:
            BadImage: when an image of the same pixels came before.
            UserError: when the data set has other values for the image.
        """
        if first := self._names.get(fingerprint.pixels):
            raise BadImage("same image as another of its task", repr(first))
        self._names[fingerprint.pixels] = name
        if packed := self._packed.get(fingerprint.pixels):
            self._missing.discard(fingerprint.pixels)
            self._compare(name, packed.values, values)
            return False
        self.outlines.append(fingerprint.outline)
        return True

    def _compare(self, name: str, packed: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        for column in sorted(packed.keys() & values.keys()):
            if _as_bytes(packed[column]) != _as_bytes(values[column]):
                raise UserError(
                    f"{self._url} already holds a data set in which column '{column}' of {name!r} "
                    f"differs; choose another DEST, or remove that data set first."
                )

    def check_complete(self) -> None:
        """Refuse a source that lacks some of the task's images: it may be another task.

        Raises:
            UserError: when it does.
        """
        if self._missing:
            raise UserError(
                f"{self._url} already holds a data set with {len(self._missing)} images of task "
                f"'{printable(self._task)}' that this source does not have; choose another DEST, "
                f"or give --grow to add this source's images to them."
            )


def _as_bytes(value: str | bytes | None) -> bytes:
    return (value or "").encode() if not isinstance(value, bytes) else value
