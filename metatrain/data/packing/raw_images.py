"""What a source hands to packing: images that nobody has looked at yet."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from metatrain.data.images import BadImage
from metatrain.data.packed.writer import sha256_of


class RawImage(NamedTuple):
    """An image not yet read: its task, what messages call it, how to read it, and metadata."""

    task: str
    name: str
    read: Callable[[], bytes]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """What is to be packed, with no image read yet.

    Attributes:
        splits: every task there may be, sorted, and the split that the source gives it, or None.
        counts: how many images it may have at most, in the same order.
        images: all of them, sorted by task.
        columns: the metadata that each image has.
        identities: by task; each changes when what would be packed of its task changes.
        refused: files that are no candidates, and why.
        beside: files to be written beside the data, by name; asked for once all images were read.
    """

    splits: Mapping[str, str | None]
    counts: Mapping[str, int]
    images: Iterable[RawImage]
    columns: tuple[str, ...]
    identities: Mapping[str, str]
    refused: list[tuple[str, BadImage]] = field(default_factory=list)
    beside: Callable[[], Mapping[str, bytes]] = dict


def identity_of(data: bytes) -> str:
    """What tells a task's images from others of the same name."""
    # Short, for every task's is kept; nobody gains by forging one.
    return sha256_of(data)[:16]
