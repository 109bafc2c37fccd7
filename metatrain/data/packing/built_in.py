"""The sources that have a word of their own: `glyphs`, drawn here, and `icons`, fetched."""

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

# Raise it when the same package would no longer give the same icons.
_ICONS_FORMAT = 1


def open_built_in(source: str, size: int | None, variant: str | None) -> Source:
    """List what a built-in source has.

    Args:
        source: one of `BUILT_IN`.
        size: of what is drawn, in pixels; None is the source's own.
        variant: which of several there are of it; None is the plain one.

    Raises:
        UserError: when there is no such variant, or the source cannot be had.
    """
    variants = BUILT_IN.get(source, {})
    if variant not in variants:
        has = [word for word, those in BUILT_IN.items() if variant in those]
        raise UserError(
            f"{source} has no variant '{variant}'" + (f", only {has[0]} has." if has else ".")
        )
    return variants[variant](size)


def _characters(size: int | None) -> Source:
    """Glyphs, with a character as the task."""
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
    """Glyphs, with a face as the task, and no image that the other way round has not."""
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
        counts={task: len(found) for task, found in tasks.items()},
        images=_icon_images(tasks, variant, size or _ICON_SIZE, packed),
        columns=("source", "icon", "licence"),
        identities=dict.fromkeys(tasks, identity),
        beside=lambda: {"ATTRIBUTION.md": attribution(sets, packed)},
    )


def _icon_images(
    tasks: Mapping[str, list[Candidate]], variant: Variant, size: int, packed: list[Candidate]
) -> Iterator[RawImage]:
    """The chosen icons, drawn ahead by task; each is put into `packed` too."""
    picked = chosen(tasks, variant)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for task, found in picked.items():
            packed += found
            images = pool.map(lambda c: draw_png(c.icon, size), found)
            for candidate, png in zip(found, images, strict=True):
                icon = candidate.icon.id
                told = {"source": candidate.source, "icon": icon, "licence": candidate.licence}
                yield RawImage(task, icon, partial(bytes, png), told)


_GLYPH_SIZE, _ICON_SIZE = 28, 32
_Opens = Callable[[int | None], Source]
BUILT_IN: Mapping[str, Mapping[str | None, _Opens]] = {
    "glyphs": {None: _characters, "style": _styles},
    "icons": {None: partial(_icons, NARROW), "wide": partial(_icons, WIDE)},
}
