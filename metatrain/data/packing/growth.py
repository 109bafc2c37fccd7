"""Tasks that a data set has already, to which a source may add images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.fingerprint import Fingerprint, fingerprint_of
from metatrain.data.images import BadImage, open_packed
from metatrain.data.packed.manifest import RowGroup, as_bytes
from metatrain.data.packed.shard import Shard

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


def read_packed_task(groups: Iterable[RowGroup], shard: Callable[[str], Shard]) -> PackedTask:
    """Read a task that is packed.

    Args:
        groups: its row groups, in their order.
        shard: reads a shard of the data set by its name.

    Raises:
        UserError: when it cannot be read.
    """
    groups = list(groups)
    rows = [row for group in groups for row in shard(group.file).rows(group)]
    return PackedTask(groups[0].split, [_packed_image(row) for row in rows])


def _packed_image(row: Mapping[str, Any]) -> PackedImage:
    try:
        fingerprint = fingerprint_of(open_packed(row["image"]))
    except BadImage as error:
        raise UserError(
            f"image {row['index']} of task '{printable(row['task'])}', which is packed already, "
            f"cannot be decoded ({error}); pack that data set anew in another place."
        ) from error
    values = {column: value for column, value in row.items() if column not in _PLACE}
    return PackedImage(fingerprint, values)


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
            if as_bytes(packed[column] or "") != as_bytes(values[column] or ""):
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
