"""Models by name, and the adapted ones last used."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from metatrain.base.errors import UserError
from metatrain.model.file import load_model
from metatrain.model.model import Model
from serving.limits import RequestError


class ModelSource(NamedTuple):
    """A model that draws.

    Attributes:
        model: the name of the model that adapted, or draws as it is.
        url: the file of the adapted model; None where nothing adapted.
    """

    model: str
    url: str | None


class Models:
    """The models that may be adapted, on one device.

    Args:
        urls: model files, or folders of runs; see `metatrain.load`.
        device: where they compute.
        trust: whether to read the places that their files name.
        loaded: adapted models that stay in memory.

    Raises:
        UserError: when one cannot be loaded or was adapted already.
    """

    def __init__(self, urls: Sequence[str], device: str, *, trust: bool, loaded: int) -> None:
        self._device, self._trust, self._loaded = device, trust, loaded
        self.by_name: dict[str, Model] = {}
        self._adapted: OrderedDict[str, Model] = OrderedDict()
        self._hashes: dict[str, str] = {}
        for url in urls:
            model = load_model(url, trust=trust).to(device)
            if model.support is not None:
                raise UserError(f"{url} was adapted already; give the model that it came from.")
            self.by_name[self._free_name(model.config.run.name)] = model

    def __getitem__(self, name: str) -> Model:
        """Return the model of this name.

        Raises:
            RequestError: when there is none.
        """
        if name not in self.by_name:
            names = ", ".join(self.by_name)
            raise RequestError(404, f"there is no model of this name; choose one of {names}.")
        return self.by_name[name]

    def adapted(self, url: str) -> Model:
        """Return the adapted model of a file; for one thread alone.

        Raises:
            UserError: when its file cannot be read.
        """
        if url not in self._adapted:
            self.remember(url, self.read(url))
        self._adapted.move_to_end(url)
        return self._adapted[url]

    def read(self, url: str) -> Model:
        """Read the adapted model of a file.

        Raises:
            UserError: when it cannot be read.
        """
        return load_model(url, trust=self._trust).to(self._device)

    def source(self, source: ModelSource) -> Model:
        """Return a model that draws; for one thread alone.

        Raises:
            UserError: when its file cannot be read.
            RequestError: when it is not served any more.
        """
        return self[source.model] if source.url is None else self.adapted(source.url)

    def sha256_of(self, source: ModelSource) -> str:
        """Return the hash of a model that draws; for one thread alone.

        Raises:
            UserError: when its file cannot be read.
            RequestError: when it is not served any more.
        """
        key = source.url or source.model
        if key not in self._hashes:
            self._hashes[key] = self.source(source).sha256
        return self._hashes[key]

    def remember(self, url: str, model: Model) -> None:
        """Keep the adapted model of a file in memory, in the place of the one unused for longest.

        It is read from the file again as soon as it is not in memory.
        """
        self._adapted[url] = model
        while len(self._adapted) > self._loaded:
            self._adapted.popitem(last=False)

    def forget(self, url: str) -> None:
        """Drop the adapted model of a file from memory."""
        self._adapted.pop(url, None)
        self._hashes.pop(url, None)

    def _free_name(self, name: str) -> str:
        number = 2
        free = name
        while free in self.by_name:
            free, number = f"{name}-{number}", number + 1
        return free
