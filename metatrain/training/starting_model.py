"""The model that a run starts from instead of random weights, named by `run.init`."""

import json
from collections.abc import Iterator

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.base.text import printable
from metatrain.config import Config
from metatrain.generators.conditions.config import NO_CONDITIONS, conditions_of
from metatrain.generators.networks.velocity import INTERVAL
from metatrain.learning.inner.scope import All
from metatrain.learning.inner.theta import RULE
from metatrain.learning.learners.joint import Joint
from metatrain.model.build import build_theta
from metatrain.model.format import FORMAT
from metatrain.model.named import known_names
from metatrain.model.parameter_types import PARAMETERS, SCALES, read_parameter
from metatrain.model.places import model_url
from metatrain.storage.files import MissingError
from metatrain.storage.tensor_file import TensorFile

# Keys that decide the tensors of a network.
_SHAPING = ("generator.", "codec.", "data.channels", "data.image_size", "objective.name")

# Before the names of what predicting mean velocities adds to a network.
_INTERVAL = f"network.{INTERVAL}."

_MOST_SHOWN = 60


class StartingModel:
    """The tensors of a model file that theta of another run begins with.

    What the run's learner, scope, conditions or objective add to the network's weights, such as
    learned rates, LoRA factors, an encoder of texts or the embedding of intervals, may be missing
    there; learned rates of the model's own learner are left out.

    Args:
        config: the configuration of the run, with `run.init`.

    Raises:
        UserError: when there is no such model, or its network is another one.
    """

    def __init__(self, config: Config) -> None:
        assert config.run.init is not None
        self._url = model_url(config.run.init)
        try:
            self._file = TensorFile(self._url)
        except MissingError as error:
            raise UserError(
                f"run.init is {config.run.init}, and there is no model"
                f"{known_names(config.run.init)}."
            ) from error
        if (version := self._file.metadata.get("format")) != FORMAT:
            raise UserError(
                f"run.init is {self._url}, of format {printable(str(version))[:_MOST_SHOWN]}; "
                f"this metatrain reads {FORMAT}."
            )
        self._shapes = _shapes_of(config)
        self._names = {name: _stored(name) for name in self._shapes}
        needed = (n for n in _shapes_of(_plain(config)) if not n.startswith(_INTERVAL))
        fault = self._fault({_stored(name) for name in needed})
        if fault:
            raise UserError(
                f"run.init is {self._url}, the model of another network: "
                f"{self._difference(config) or fault}; set it as there, or leave run.init out."
            )
        if self._has_other_codec(config):
            raise UserError(
                f"run.init is {self._url}, which was trained on the latents of another codec; set "
                f"codec as there, or leave run.init out."
            )

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each tensor of theta that the model has, by its name in theta; one at a time."""
        for name, stored in self._names.items():
            if stored in self._file.shapes:
                yield name, self._read(name)

    def _read(self, name: str) -> Tensor:
        known = [n for n in (_stored(name), f"{SCALES}/{name}") if n in self._file.shapes]
        tensors = {n: self._file.read(n, as_stored=True) for n in known}
        try:
            return read_parameter(name, tensors).float()
        except (KeyError, ValueError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"run.init is {self._url}, which is damaged: {printable(name)}: {reason}."
            ) from error

    def _fault(self, network: set[str]) -> str | None:
        """Return what keeps the tensors from fitting; None where nothing does.

        Args:
            network: the names in a file of the network's weights alone.
        """
        shapes = self._file.shapes
        for name, stored in self._names.items():
            if stored not in shapes and stored in network:
                return f"it has no {name}"
            if shapes.get(stored, self._shapes[name]) != self._shapes[name]:
                return f"{name} has the shape {shapes[stored]} there, not {self._shapes[name]}"
        rest = (name for name in shapes.keys() - self._names.values() if _is_weight(name))
        unused = min(rest, default=None)
        return f"it has {printable(unused)} too" if unused else None

    def _difference(self, config: Config) -> str | None:
        """Return a key that decides the network and differs, as far as the file tells."""
        values = self._values()
        for key, value in _leaves(config.model_dump(mode="json")):
            if key.startswith(_SHAPING) and values.get(key, value) != value:
                there = printable(str(values[key]))[:_MOST_SHOWN]
                return f"{key} is {there} there, and {value} here"
        return None

    def _has_other_codec(self, config: Config) -> bool:
        here = dict(_leaves(config.model_dump(mode="json")))
        values = self._values()
        hashes = [key for key in here if key.startswith("codec.") and key.endswith("sha256")]
        return any(here[key] and here[key] != (values.get(key) or here[key]) for key in hashes)

    def _values(self) -> dict[str, object]:
        """Return the values of its configuration by key, as far as the file tells."""
        try:
            return dict(_leaves(json.loads(self._file.metadata["config"])))
        except (KeyError, ValueError, RecursionError):
            return {}


def _shapes_of(config: Config) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in build_theta(config).named().items()}


def _plain(config: Config) -> Config:
    """Return the configuration of the network alone, without what is added to its weights."""
    inner = config.inner.model_copy(update={"scope": All.Config()})
    changes = {"inner": inner, "learner": Joint.Config()}
    if conditions_of(config.generator):
        changes["generator"] = _unconditioned(config.generator)
    return config.model_copy(update=changes)


def _unconditioned(generator: Section) -> Section:
    """Return a generator's section without conditions, or that of networks that it combines."""
    networks = getattr(generator, "of", None)
    changes = {"of": _unconditioned(networks)} if networks else {"conditions": NO_CONDITIONS}
    return generator.model_copy(update=changes)


def _stored(name: str) -> str:
    return f"{PARAMETERS}/{name}"


def _is_weight(stored: str) -> bool:
    """Tell whether a tensor of a model file is a parameter, and no learned rate."""
    return stored.startswith(_stored("")) and not stored.startswith(_stored(RULE))


def _leaves(values: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if not isinstance(values, dict):
        yield prefix.removesuffix("."), values
        return
    for key, value in values.items():
        yield from _leaves(value, f"{prefix}{key}.")
