"""A listing of a source, and the source that packing makes of it."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.images import BadImage, BadValue
from metatrain.data.packing.names import task_name
from metatrain.data.packing.raw_images import RawImage, Source, identity_of


class ListedImage(NamedTuple):
    """An image that a source lists.

    Attributes:
        task: as the source spells it.
        name: tells the image from the others of the source.
        split: of its task, where the source gives one.
        metadata: of the same keys for every image of the source.
        read: reads the encoded image.
        stamp: anything JSON that changes with the image, such as its size in bytes.
    """

    task: str
    name: str
    split: str | None
    metadata: Mapping[str, str]
    read: Callable[[], bytes]
    stamp: Any = None


@dataclass
class Listing:
    """The images of a source, in the order that they have within their tasks.

    Attributes:
        entries: the images.
        refused: files that are no candidates, and why.
        remarks: sentences on decisions that the user should know of.
        read_file: reads a further file of the source by the path that metadata give.
        conditions: columns that are packed as conditions unasked, and the kind of each.
    """

    entries: list[ListedImage] = field(default_factory=list)
    refused: list[tuple[str, BadValue]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    read_file: Callable[[str], bytes] | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """The user's word on how to read a source.

    Attributes:
        size: width and height of images that are rendered, in pixels.
        variant: a variant of a built-in source.
        task_depth: a task is a folder so many levels down; None finds it out.
        ignore_splits: whether the splits of the source count for nothing.
        path_column: the column of a table that has paths; None: path, or file_name.
        task_column: the column that has tasks; None: task, or label.
        root: the folder or archive that a table's paths start from; None: the table's own folder.
        photos: whether every image is a task of its own.
        conditions: the columns that are wanted as conditions, which may lie in files beside images.
    """

    size: int | None = None
    variant: str | None = None
    task_depth: int | None = None
    ignore_splits: bool = False
    path_column: str | None = None
    task_column: str | None = None
    root: str | None = None
    photos: bool = False
    conditions: tuple[str, ...] = ()


def source_of(listing: Listing, url: str, ignore_splits: bool = False) -> Source:
    """Assemble the listing of the source at `url`, with every task under one name.

    Raises:
        UserError: when a task is in two splits.
    """
    entries: list[ListedImage] = []
    refused = list(listing.refused)
    for entry in listing.entries:
        split = None if ignore_splits else entry.split
        if name := task_name(entry.task):
            entries.append(entry._replace(task=name, split=split))
        else:
            refused.append((entry.name, BadImage("no task")))
    spelled: dict[str, dict[str, None]] = {}
    for raw in listing.entries:
        spelled.setdefault(task_name(raw.task), {})[raw.task] = None
    splits = _splits(entries, spelled, url)
    entries.sort(key=lambda entry: entry.task)
    stamps: dict[str, list[Any]] = {}
    for task, name, split, metadata, _, stamp in entries:
        stamps.setdefault(task, []).append((name, split, metadata, stamp))
    return Source(
        splits={task: splits[task] for task in stamps},
        counts=Counter(entry.task for entry in entries),
        images=(RawImage(e.task, e.name, e.read, e.metadata) for e in entries),
        columns=tuple(entries[0].metadata) if entries else (),
        identities={
            task: identity_of(json.dumps(stamp, sort_keys=True).encode())
            for task, stamp in stamps.items()
        },
        refused=refused,
        remarks=[*listing.remarks, *_merged(spelled)],
        read_file=listing.read_file,
        conditions=listing.conditions,
    )


def _splits(
    entries: list[ListedImage], spelled: Mapping[str, Mapping[str, None]], url: str
) -> dict[str, str | None]:
    splits: dict[str, str | None] = {}
    for entry in entries:
        if splits.setdefault(entry.task, entry.split) != entry.split:
            names = spelled[entry.task]
            also = f", spelled {_listed(names)}," if len(names) > 1 else ""
            raise UserError(
                f"task '{printable(entry.task)}'{also} of {url} is in two splits, but one must "
                "hold out whole tasks; give each task one split, or --ignore-splits to have the "
                "seed decide."
            )
    return splits


def _merged(spelled: Mapping[str, Mapping[str, None]]) -> list[str]:
    return [
        f"one task: {_listed(names)}, which differ only in blanks or in how accents are composed"
        for names in spelled.values()
        if len(names) > 1
    ]


def _listed(names: Mapping[str, None]) -> str:
    # ascii: the names look alike, and control characters would act on a terminal.
    return " and ".join(sorted(ascii(name) for name in names))
