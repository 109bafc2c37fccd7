"""Texts and sounds in files beside the images that they belong to, or beside their folders."""

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any

from metatrain.data.conditions.text import MOST_BYTES
from metatrain.data.images import BadValue
from metatrain.data.packing.containers.container import Container

# The columns that such files give, and the endings of their names.
_TEXT = "text"
_ENDINGS = {_TEXT: (".txt",), "audio": (".wav", ".flac", ".ogg", ".mp3")}


class FilesBeside:
    """Files of the name of an image, such as fox/1.txt of fox/1.png, or of its folder: fox.txt.

    The nearest one counts, so that what lies beside a folder holds for all images in it that have
    none of their own.

    Args:
        files: those of the source.
        columns: the columns that are wanted; others than text and audio are none of files.

    Attributes:
        names: of all files that may belong to an image.
    """

    def __init__(self, files: Container, columns: Collection[str]) -> None:
        self._files = files
        wanted = {column: _ENDINGS[column] for column in _ENDINGS if column in columns}
        named = {
            column: [name for name in files.sizes if name.lower().endswith(endings)]
            for column, endings in wanted.items()
        }
        # A column that no file fills is none.
        self._by_place = {
            column: {_without_ending(name): name for name in names}
            for column, names in named.items()
            if names
        }
        self.names = {name for names in self._by_place.values() for name in names.values()}

    def values(self, image: str) -> dict[str, str]:
        """Return by column the text of an image, or the path of its sound; '' for none.

        Raises:
            BadValue: when a text cannot be read.
        """
        names = {column: self._name(column, image) for column in self._by_place}
        return {c: self._text(n) if c == _TEXT and n else n for c, n in names.items()}

    def stamp(self, image: str) -> Any:
        """Return what changes with the image and what lies beside it: their sizes."""
        sizes = self._files.sizes
        beside = [sizes.get(self._name(column, image), 0) for column in self._by_place]
        return [sizes[image], *beside] if beside else sizes[image]

    def _name(self, column: str, image: str) -> str:
        path = PurePosixPath(_without_ending(image))
        places = [str(place) for place in (path, *path.parents)]
        names = self._by_place[column]
        return next((names[place] for place in places if place in names), "")

    def _text(self, name: str) -> str:
        if self._files.sizes[name] > MOST_BYTES:
            raise BadValue(f"beside it a text of more than {MOST_BYTES:,} bytes")
        try:
            return self._files.read(name).decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise BadValue("beside it a text that is not UTF-8") from error


def _without_ending(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
