"""The source that packing makes of a listing."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.images import BadImage
from metatrain.data.packing.names import task_name
from metatrain.data.packing.raw_images import RawImage, Source, identity_of
from metatrain.data.packing.sources.listing import ListedImage, Listing, Options
from metatrain.data.packing.sources.pseudonyms import with_pseudonyms


def source_of(listing: Listing, url: str, options: Options) -> Source:
    """Assemble the listing of the source at `url`, with every task under one name.

    Patients have pseudonyms from here on.

    Raises:
        UserError: when a task is in two splits.
    """
    listing, patients = with_pseudonyms(listing, options, url)
    entries: list[ListedImage] = []
    refused = list(listing.refused)
    for entry in listing.entries:
        split = None if options.ignore_splits else entry.split
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
    for e in entries:
        stamps.setdefault(e.task, []).append((e.name, e.split, e.metadata, e.stamp))
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
        patients=patients,
    )


def _splits(
    entries: list[ListedImage], spelled: Mapping[str, Mapping[str, None]], url: str
) -> dict[str, str | None]:
    firsts: dict[str, ListedImage] = {}
    for entry in entries:
        first = firsts.setdefault(entry.task, entry)
        if first.split != entry.split:
            names = spelled[entry.task]
            # The name of a task may be a pseudonym, which tells nobody what to mend.
            places = " and ".join(f"'{printable(e.name)}'" for e in (first, entry))
            also = f", spelled {_listed(names)}," if len(names) > 1 else ""
            raise UserError(
                f"task '{printable(entry.task)}'{also} of {url} is in two splits (by {places}), "
                "but one must hold out whole tasks; give each task one split, or --ignore-splits "
                "to have the seed decide."
            )
    return {task: first.split for task, first in firsts.items()}


def _merged(spelled: Mapping[str, Mapping[str, None]]) -> list[str]:
    return [
        f"one task: {_listed(names)}, which differ only in blanks or in how accents are composed"
        for names in spelled.values()
        if len(names) > 1
    ]


def _listed(names: Mapping[str, None]) -> str:
    # ascii: the names look alike, and control characters would act on a terminal.
    return " and ".join(sorted(ascii(name) for name in names))
