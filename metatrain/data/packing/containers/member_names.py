"""Members of an archive by name; hostile and repeated names are refused."""

import posixpath
from typing import Generic, TypeVar

from metatrain.data.images import BadImage

Member = TypeVar("Member")


class Members(Generic[Member]):
    """Members by their names.

    Attributes:
        kept: those that are plain files within the archive, in its order.
        refused: the names of all others, and why.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Member] = {}
        self.refused: list[tuple[str, BadImage]] = []

    def add(self, name: str, member: Member, plain: bool) -> None:
        """Add a member; `plain` tells that it is a file, and no link, device or the like."""
        path = posixpath.normpath(name)
        if path.startswith(("/", "../")) or path in ("..", "."):
            self.refused.append((name, BadImage("leads out of the source's folder")))
        elif not plain:
            self.refused.append((name, BadImage("not a file")))
        elif path in self.kept:
            self.refused.append((name, BadImage("listed twice")))
        else:
            self.kept[path] = member

    def find(self, name: str) -> Member:
        """Return the member of this name.

        Raises:
            BadImage: when there is none.
        """
        path = posixpath.normpath(name)
        if path.startswith(("/", "../")):
            raise BadImage("leads out of the source's folder")
        if path not in self.kept:
            raise BadImage("cannot be read")
        return self.kept[path]
