"""The icons as a source of images to pack."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from metatrain.data.packing.icons.attribution import attribution
from metatrain.data.packing.icons.choice import IconCandidate, Variant, candidates, chosen
from metatrain.data.packing.icons.drawing import draw_png
from metatrain.data.packing.icons.names import split_of
from metatrain.data.packing.icons.package import ICONIFY, packaged_sets
from metatrain.data.packing.icons.sets import Icon, usable_sets
from metatrain.data.packing.raw_images import RawImage, Source, identity_of

# To be raised when the same package no longer gives the same icons.
_FORMAT = 1
_SIZE = 32


def icon_source(variant: Variant, size: int | None) -> Source:
    """List the icons as tasks.

    Args:
        variant: the requirements for a task.
        size: width and height to render at, in pixels; None is 32.

    Raises:
        UserError: when the package cannot be downloaded or read.
    """
    sets = list(usable_sets(packaged_sets(ICONIFY.fetched())))
    tasks = candidates(sets, variant)
    packed: list[Icon] = []
    identity = identity_of(f"{ICONIFY.integrity}/{variant}/{_FORMAT}".encode())
    return Source(
        splits={task: split_of(task) for task in tasks},
        counts={task: len(icons) for task, icons in tasks.items()},
        images=_images(tasks, variant, size or _SIZE, packed),
        columns=("source", "icon", "licence"),
        identities=dict.fromkeys(tasks, identity),
        beside=lambda: {"ATTRIBUTION.md": attribution(sets, packed, how="in black on white")},
    )


def _images(
    tasks: Mapping[str, list[IconCandidate]], variant: Variant, size: int, packed: list[Icon]
) -> Iterator[RawImage]:
    """Yield the chosen icons, rendered task by task on all cores, and append them to `packed`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for task, icons in chosen(tasks, variant).items():
            packed += (candidate.icon for candidate in icons)
            images = pool.map(lambda candidate: draw_png(candidate.icon, size), icons)
            for candidate, png in zip(icons, images, strict=True):
                name = candidate.icon.id
                metadata = {"source": candidate.source, "icon": name, "licence": candidate.licence}
                yield RawImage(task, name, partial(bytes, png), metadata)
