"""The emoji as a source of images to pack."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from metatrain.data.packing.emoji.catalogue import EMOJIBASE, read_catalogue
from metatrain.data.packing.emoji.choice import chosen
from metatrain.data.packing.emoji.drawing import draw_png
from metatrain.data.packing.emoji.hands import HANDS, EmojiDrawing, read_hands
from metatrain.data.packing.emoji.protocol import EmojiProtocol, subgroup_splits
from metatrain.data.packing.icons.attribution import attribution
from metatrain.data.packing.icons.package import ICONIFY, packaged_sets
from metatrain.data.packing.icons.sets import Icon
from metatrain.data.packing.raw_images import RawImage, Source, identity_of

# To be raised when the same packages no longer give the same images.
_FORMAT = 1
_SIZE = 64
_COLUMNS = ("source", "emoji", "subgroup", "icon", "licence", "caption")
_NAMES = (
    f"Names and tags, in the\ncolumn `caption`, are those of the npm package `{EMOJIBASE.name}` "
    f"{EMOJIBASE.version} by Miles Johnson, under MIT."
)


def emoji_source(protocol: EmojiProtocol, size: int | None) -> Source:
    """List the emoji as tasks of a protocol.

    Args:
        protocol: decides what a task is.
        size: width and height to render at, in pixels; None is 64.

    Raises:
        UserError: when a package cannot be downloaded or read.
    """
    catalogue = read_catalogue(EMOJIBASE.fetched())
    sets, drawings = read_hands(packaged_sets(ICONIFY.fetched(), HANDS), catalogue)
    tasks, splits = _tasks(drawings, protocol, subgroup_splits(catalogue.subgroups()))
    packed: list[Icon] = []
    version = f"{ICONIFY.integrity}/{EMOJIBASE.integrity}/{protocol}/{_FORMAT}"
    return Source(
        splits=splits,
        counts={task: len(tasks[task]) for task in tasks},
        images=_images(tasks, splits, protocol, size or _SIZE, packed),
        columns=_COLUMNS,
        identities=dict.fromkeys(tasks, identity_of(version.encode())),
        beside=lambda: {
            "ATTRIBUTION.md": attribution(sets, packed, how="in their colours", more=_NAMES)
        },
        conditions={"caption": "text"},
    )


def _tasks(
    drawings: Sequence[EmojiDrawing], protocol: EmojiProtocol, of_subgroup: Mapping[str, str]
) -> tuple[dict[str, list[EmojiDrawing]], dict[str, str]]:
    """Return the drawings and the split of each possible task, sorted by the task's name."""
    tasks, splits = defaultdict[str, list[EmojiDrawing]](list), dict[str, str]()
    for drawing in drawings:
        if split := protocol.split_of(drawing, of_subgroup):
            task = protocol.task_of(drawing)
            tasks[task].append(drawing)
            splits[task] = split
    enough = sorted(task for task in tasks if len(tasks[task]) >= protocol.images)
    return {task: tasks[task] for task in enough}, {task: splits[task] for task in enough}


def _images(
    tasks: Mapping[str, Sequence[EmojiDrawing]],
    splits: Mapping[str, str],
    protocol: EmojiProtocol,
    size: int,
    packed: list[Icon],
) -> Iterator[RawImage]:
    """Yield the chosen drawings, rendered task by task on all cores, and append to `packed`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for task, drawings in chosen(tasks, splits, protocol.images).items():
            packed += (drawing.icon for drawing in drawings)
            images = pool.map(lambda drawing: draw_png(drawing.icon, size), drawings)
            for drawing, png in zip(drawings, images, strict=True):
                yield RawImage(task, drawing.icon.id, partial(bytes, png), _metadata(drawing))


def _metadata(drawing: EmojiDrawing) -> dict[str, str]:
    emoji = drawing.emoji
    values = (
        *(drawing.hand, emoji.character, emoji.subgroup),
        *(drawing.icon.id, drawing.licence, emoji.caption),
    )
    return dict(zip(_COLUMNS, values, strict=True))
