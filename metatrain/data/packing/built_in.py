"""The built-in sources: `glyphs`, which are rendered here, and `icons`, which are downloaded."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from metatrain.base.errors import UserError
from metatrain.data.packing.glyphs import glyph_fonts, glyph_images, glyph_tasks
from metatrain.data.packing.icons.attribution import attribution
from metatrain.data.packing.icons.choice import NARROW, WIDE, Candidate, Variant, candidates, chosen
from metatrain.data.packing.icons.drawing import draw_png
from metatrain.data.packing.icons.names import split_of
from metatrain.data.packing.icons.package import INTEGRITY, fetched_package, packaged_sets
from metatrain.data.packing.icons.sets import usable_sets
from metatrain.data.packing.raw_images import RawImage, Source, identity_of

# To be raised when the same package no longer gives the same icons.
_ICONS_FORMAT = 1


def open_built_in(source: str, size: int | None, variant: str | None) -> Source:
    """List the images of a built-in source.

    Args:
        source: one of `BUILT_IN`.
        size: width and height to render at, in pixels; None is the source's default.
        variant: a variant of the source; None is the plain one.

    Raises:
        UserError: when there is no such variant, or the source cannot be downloaded.
    """
    variants = BUILT_IN.get(source, {})
    if variant not in variants:
        others = [name for name, variants in BUILT_IN.items() if variant in variants]
        raise UserError(
            f"{source} has no variant '{variant}'"
            + (f"; pack {others[0]}, which has it." if others else "; leave it out.")
        )
    return variants[variant](size)


def _characters(size: int | None) -> Source:
    """List the glyphs, with a character as a task."""
    tasks = glyph_tasks()
    return Source(
        splits=dict.fromkeys(tasks),
        counts={name: len(glyphs) for name, glyphs in tasks.items()},
        images=(
            RawImage(name, f"{name} of {face}", lambda png=png: png, {"source": face})
            for name, images in glyph_images(size or _GLYPH_SIZE)
            for face, png in images
        ),
        columns=("source",),
        identities=dict.fromkeys(tasks, _fonts()),
    )


def _styles(size: int | None) -> Source:
    """List the same glyphs, with a face as a task."""
    counts = Counter(g.font.stem for glyphs in glyph_tasks().values() for g in glyphs)
    faces = sorted(counts)
    return Source(
        splits=dict.fromkeys(faces),
        counts={face: counts[face] for face in faces},
        images=_images_by_face(size or _GLYPH_SIZE),
        columns=("character",),
        identities=dict.fromkeys(faces, _fonts()),
    )


def _images_by_face(size: int) -> Iterator[RawImage]:
    faces: dict[str, list[RawImage]] = defaultdict(list)
    for name, images in glyph_images(size):
        for face, png in images:
            read = partial(bytes, png)
            faces[face].append(RawImage(face, f"{name} of {face}", read, {"character": name}))
    for face in sorted(faces):
        yield from faces[face]


def _fonts() -> str:
    return identity_of(b"".join(font.read_bytes() for font in glyph_fonts()))


def _icons(variant: Variant, size: int | None) -> Source:
    sets = list(usable_sets(packaged_sets(fetched_package())))
    tasks = candidates(sets, variant)
    packed: list[Candidate] = []
    identity = identity_of(f"{INTEGRITY}/{variant}/{_ICONS_FORMAT}".encode())
    return Source(
        splits={task: split_of(task) for task in tasks},
        counts={task: len(icons) for task, icons in tasks.items()},
        images=_icon_images(tasks, variant, size or _ICON_SIZE, packed),
        columns=("source", "icon", "licence"),
        identities=dict.fromkeys(tasks, identity),
        beside=lambda: {"ATTRIBUTION.md": attribution(sets, packed)},
    )


def _icon_images(
    tasks: Mapping[str, list[Candidate]], variant: Variant, size: int, packed: list[Candidate]
) -> Iterator[RawImage]:
    """Yield the chosen icons, rendered task by task on all cores, and append them to `packed`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for task, icons in chosen(tasks, variant).items():
            packed += icons
            images = pool.map(lambda candidate: draw_png(candidate.icon, size), icons)
            for candidate, png in zip(icons, images, strict=True):
                name = candidate.icon.id
                metadata = {"source": candidate.source, "icon": name, "licence": candidate.licence}
                yield RawImage(task, name, partial(bytes, png), metadata)


_GLYPH_SIZE, _ICON_SIZE = 28, 32
BUILT_IN: Mapping[str, Mapping[str | None, Callable[[int | None], Source]]] = {
    "glyphs": {None: _characters, "style": _styles},
    "icons": {None: partial(_icons, NARROW), "wide": partial(_icons, WIDE)},
}
