"""Several archives side by side, such as shards, or one archive for each task."""

from collections.abc import Mapping

from typing_extensions import override

from metatrain.data.images import BadImage
from metatrain.data.packing.containers.container import Container


class Joined(Container):
    """The files of several containers, each in a folder of the container's name.

    Args:
        url: of all, for messages.
        parts: containers by the name of their folder.
    """

    def __init__(self, url: str, parts: Mapping[str, Container]) -> None:
        self.url, self._parts = url, parts

        self._sizes = {
            f"{folder}/{name}": size
            for folder, part in parts.items()
            for name, size in part.sizes.items()
        }

    @property
    @override
    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    @property
    @override
    def refused(self) -> list[tuple[str, BadImage]]:
        return [
            (f"{folder}/{name}", error)
            for folder, part in self._parts.items()
            for name, error in part.refused
        ]

    @override
    def read(self, name: str) -> bytes:
        folder, _, rest = name.partition("/")
        if folder not in self._parts:
            raise BadImage("cannot be read")
        return self._parts[folder].read(rest)
