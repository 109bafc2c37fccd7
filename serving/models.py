"""Models by name, and the adapted ones last used."""

from collections import OrderedDict
from collections.abc import Sequence

from metatrain.base.errors import UserError
from metatrain.model.file import load_model
from metatrain.model.model import Model
from serving.adaptations import Adaptation
from serving.limits import RequestError


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

    def adapted(self, adaptation: Adaptation) -> Model:
        """Return the adapted model of an adaptation; for the worker's thread alone.

        Raises:
            UserError: when its file cannot be read.
            RequestError: when it stands on a model that is not served any more.
        """
        if not adaptation.record.given:
            return self[adaptation.record.model]  # told in words or by a sound alone
        identifier = adaptation.record.id
        if identifier not in self._adapted:
            model = load_model(str(adaptation.model_file), trust=self._trust).to(self._device)
            self.remember(adaptation, model)
        self._adapted.move_to_end(identifier)
        return self._adapted[identifier]

    def sha256_of(self, adaptation: Adaptation) -> str:
        """Return the hash of the adapted model of an adaptation; for the worker's thread alone.

        Raises:
            UserError: when its file cannot be read.
        """
        identifier = adaptation.record.id
        if identifier not in self._hashes:
            self._hashes[identifier] = self.adapted(adaptation).sha256
        return self._hashes[identifier]

    def remember(self, adaptation: Adaptation, model: Model) -> None:
        """Keep an adapted model in memory, in the place of the one unused for longest."""
        self._adapted[adaptation.record.id] = model
        while len(self._adapted) > self._loaded:
            self._adapted.popitem(last=False)

    def forget(self, adaptation: Adaptation) -> None:
        """Drop the adapted model of an adaptation from memory."""
        self._adapted.pop(adaptation.record.id, None)
        self._hashes.pop(adaptation.record.id, None)

    def _free_name(self, name: str) -> str:
        number = 2
        free = name
        while free in self.by_name:
            free, number = f"{name}-{number}", number + 1
        return free
