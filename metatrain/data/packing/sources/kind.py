"""Kinds of sources, as the registry has them."""

from typing import Protocol

from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.sources.listing import Listing, Options


class Kind(Protocol):
    """A kind of source: reads the tasks out of a container's files."""

    @property
    def description(self) -> str:
        """A noun phrase for messages: a source of this kind."""
        ...

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of files that are a source of this kind each by itself."""
        ...

    def recognises(self, files: Container) -> bool:
        """Tell by the names of `files` whether they are of this kind."""
        ...

    def listing(self, files: Container, options: Options) -> Listing:
        """List the images.

        Raises:
            UserError: when there are none, or their tasks are not clear.
        """
        ...
