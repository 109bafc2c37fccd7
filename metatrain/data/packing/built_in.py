"""The built-in sources: `glyphs` are rendered here, `icons` and `emoji` are downloaded."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from metatrain.base.errors import UserError
from metatrain.data.packing.emoji.protocol import BY_EMOJI, BY_HAND, NEW_HAND
from metatrain.data.packing.emoji.source import emoji_source
from metatrain.data.packing.glyphs import glyph_fonts, glyph_images, glyph_tasks
from metatrain.data.packing.icons.choice import NARROW, WIDE
from metatrain.data.packing.icons.source import icon_source
from metatrain.data.packing.raw_images import RawImage, Source, identity_of


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


_GLYPH_SIZE = 28
BUILT_IN: Mapping[str, Mapping[str | None, Callable[[int | None], Source]]] = {
    "glyphs": {None: _characters, "style": _styles},
    "icons": {None: partial(icon_source, NARROW), "wide": partial(icon_source, WIDE)},
    "emoji": {
        None: partial(emoji_source, BY_EMOJI),
        "hand": partial(emoji_source, BY_HAND),
        "new-hand": partial(emoji_source, NEW_HAND),
    },
}
