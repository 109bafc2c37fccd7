"""A source of images to pack, as packing sees it: nothing is read yet."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from metatrain.data.images import BadValue
from metatrain.data.packed.writer import sha256_of
from metatrain.data.packing.patients import Patients


class RawImage(NamedTuple):
    """An image before it is read: its task, its name for messages, its reader, and metadata."""

    task: str
    name: str
    read: Callable[[], bytes]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """Images to pack, before any is read.

    Attributes:
        splits: every possible task, sorted, and the split that the source gives it, or None.
        counts: the most images that each may have, in the same order.
        images: all images, sorted by task.
        columns: the names of each image's metadata.
        identities: by task, a text that changes when the task's images or their metadata change.
        refused: files that are no candidates, and why.
        remarks: sentences on decisions that the user should know of.
        beside: returns files to write beside the data, by name; called after all images are read.
        read_file: reads a file of the source by the path that its metadata gives; None where it
            has no files.
        conditions: columns that are packed as conditions unasked, and the kind of each.
        patients: the people whose images they are, where the source names them.
    """

    splits: Mapping[str, str | None]
    counts: Mapping[str, int]
    images: Iterable[RawImage]
    columns: tuple[str, ...]
    identities: Mapping[str, str]
    refused: list[tuple[str, BadValue]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    beside: Callable[[], Mapping[str, bytes]] = dict
    read_file: Callable[[str], bytes] | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)
    patients: Patients | None = None


def identity_of(data: bytes) -> str:
    """Return a text that tells a task's images from others of the same name."""
    # Short, since the manifest keeps every task's; nobody gains by forging one.
    return sha256_of(data)[:16]
