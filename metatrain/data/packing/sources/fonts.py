"""Fonts as tasks: a typeface is drawn a letter an image, and each image is told its letter."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import PurePosixPath
from typing import NamedTuple

from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.data.lettering import Typeface
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.names import is_image_name, is_passed_over
from metatrain.data.packing.sources.listing import ListedImage, Listing, Options
from metatrain.data.packing.splits import assign_splits

_ENDINGS = (".ttf", ".otf")
_SIZE = 64
# Of an episode's support and query, a typeface of fewer letters has too few.
_LEAST = 26
_SHARES = (0.8, 0.1, 0.1)


class Fonts:
    """A typeface for each task, with the letter on an image as its condition `text`."""

    description = "a folder or archive of fonts (.ttf, .otf), drawn a letter an image"
    endings = ()

    def recognises(self, files: Container) -> bool:
        """Tell whether there are fonts, and no images."""
        return any(map(_is_font, files.sizes)) and not any(map(is_image_name, files.sizes))

    def listing(self, files: Container, options: Options) -> Listing:
        """List the letters of every font; all weights and slopes of a family share a split.

        Raises:
            UserError: when no font can be used.
        """
        result = Listing(refused=list(files.refused), conditions={"text": "text"})
        listed = []
        for name in sorted(filter(_is_font, files.sizes)):
            try:
                listed.append(_listed(files.read(name), name))
            except BadImage as error:
                result.refused.append((name, error))
        families = assign_splits(dict.fromkeys((f.family for f in listed), None), 0, _SHARES)
        draw = _drawing(files, options.size or _SIZE)
        result.entries = [
            ListedImage(
                task=str(PurePosixPath(font.name).with_suffix("")),
                name=f"{letter} of {font.name}",
                split=families[font.family],
                metadata={"text": letter, "family": font.family, "licence": font.licence},
                read=partial(draw, font.name, letter),
                stamp=files.sizes[font.name],
            )
            for font in listed
            for letter in font.letters
        ]
        if not result.entries:
            why = f" ({result.refused[0][1]})" if result.refused else ""
            raise UserError(f"no font in {files.url} can be drawn{why}; give .ttf or .otf files.")
        return result


class _Font(NamedTuple):
    """A font that can be used."""

    name: str
    letters: str
    family: str
    licence: str


def _listed(data: bytes, name: str) -> _Font:
    typeface = Typeface(data, _SIZE)
    if len(letters := typeface.letters()) < _LEAST:
        raise BadImage("a font of too few letters", f"{len(letters)}, of {_LEAST} at least")
    return _Font(name, letters, typeface.family or name, typeface.licence)


def _drawing(files: Container, size: int) -> Callable[[str, str], bytes]:
    """Return the function that draws a letter of the font at a name."""

    # Letters come font by font, read by several threads.
    @lru_cache(maxsize=4)
    def typeface(name: str) -> Typeface:
        return Typeface(files.read(name), size)

    return lambda name, letter: typeface(name).draw(letter)


def _is_font(name: str) -> bool:
    return name.lower().endswith(_ENDINGS) and not is_passed_over(name)
