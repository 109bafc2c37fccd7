"""A generator as one safetensors file, with its configuration inside."""

import hashlib
import json
from dataclasses import dataclass, replace

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.config import Config, parse_config
from metatrain.data.examples import Examples
from metatrain.data.pictures import from_uint8, to_uint8
from metatrain.generators import Generator
from metatrain.learning.inner.theta import Theta
from metatrain.model.build import build_theta
from metatrain.model.calibration import Calibration
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.storage.tensors import read_metadata

# Raised when a change makes older files unreadable.
FORMAT = "metatrain-1"
_SUPPORT = "support"
_CALIBRATION = "calibration"


@dataclass(frozen=True)
class Model:
    """Parameters with all that is needed to use them.

    Attributes:
        config: the configuration they were trained with.
        parameters: theta, or phi once adapted.
        step: outer steps behind theta.
        support: the K examples adapted to; None before adapting.
        calibration: what it did on unseen tasks; None where nobody has looked.
    """

    config: Config
    parameters: Parameters
    step: int
    support: Examples | None = None
    calibration: Calibration | None = None

    @property
    def sha256(self) -> str:
        """Of its configuration and parameters: whatever file they are in, and however made."""
        digest = hashlib.sha256(f"{self.step}/{self.config.model_dump_json()}".encode())
        for name, value in sorted(self.parameters.items()):
            digest.update(f"/{name}/{value.dtype}/{tuple(value.shape)}/".encode())
            digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def theta(self) -> Theta:
        """Make meta-parameters with these values, on their device."""
        theta = build_theta(self.config).load(self.parameters)
        return theta.to(next(iter(self.parameters.values())).device)

    def generator(self) -> Generator:
        """Make a generator with these parameters, on their device."""
        return self.theta().generator

    def adapted(self, parameters: Parameters, support: Examples) -> "Model":
        """The same model with fast weights, and the support they came from."""
        return replace(self, parameters=parameters, support=support, calibration=None)


def save_model(model: Model, url: str) -> None:
    """Write `model` to one safetensors file, float32, at a path or any fsspec URL."""
    write_file(url, model_bytes(model))


def model_bytes(model: Model) -> bytes:
    """`model` as the bytes of a safetensors file."""
    tensors = {f"parameters/{name}": p.contiguous() for name, p in model.parameters.items()}
    if model.support is not None:
        tensors[_SUPPORT] = to_uint8(model.support.target)
    metadata = {
        "format": FORMAT,
        "step": str(model.step),
        "config": model.config.model_dump_json(),
    }
    if model.calibration is not None:
        said, arrays = model.calibration.parts()
        metadata[_CALIBRATION] = json.dumps(said)
        tensors |= {f"{_CALIBRATION}/{name}": array for name, array in arrays.items()}
    return save(tensors, metadata)


def load_model(url: str) -> Model:
    """Read a model file, or that of a finished run's or a checkpoint's folder.

    Raises:
        UserError: when there is none, or it is damaged or not a metatrain model.
    """
    url = model_url(url)
    return parse_model(read_model(url), url)


def model_url(url: str) -> str:
    """The file that `url` means: itself, or the one in a run's or a checkpoint's folder."""
    return url if url.endswith(".safetensors") else f"{url.rstrip('/')}/model.safetensors"


def read_model(url: str) -> bytes:
    """The bytes of the model file `url`.

    Raises:
        UserError: when there is none, or it cannot be read.
    """
    try:
        return read_file(url)
    except MissingError as error:
        raise UserError(
            f"there is no model at {url}; give the folder of a finished run or of a "
            f"checkpoint, or a file that metatrain wrote."
        ) from error


def parse_model(data: bytes, url: str) -> Model:
    """A model from the bytes of its file; `url` says in messages where they are from.

    Raises:
        UserError: when they are damaged, or not a metatrain model.
    """
    try:
        tensors = load(data)
        metadata = read_metadata(data)
        version, step = metadata["format"], int(metadata["step"])
        values = json.loads(metadata["config"])
        said, calibration = metadata.get(_CALIBRATION), None
        if said is not None:
            calibration = Calibration.of_parts(json.loads(said), _under(_CALIBRATION, tensors))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{url} is not a metatrain model, or is damaged: {error}.") from error
    if version != FORMAT:
        raise UserError(f"{url} is of format {version}; this metatrain reads {FORMAT}.")
    config = parse_config(values)
    parameters = _under("parameters", tensors)
    _check_shapes(parameters, config, url)
    support = tensors.get(_SUPPORT)
    image = (config.data.channels, config.data.image_size, config.data.image_size)
    if support is not None and (support.ndim != 4 or support.shape[1:] != image):
        raise UserError(f"the support in {url} is not of the size of its own configuration.")
    given = None if support is None else Examples(from_uint8(support))
    return Model(config, parameters, step, given, calibration)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def _check_shapes(parameters: Parameters, config: Config, url: str) -> None:
    with torch.device("meta"):
        expected = {n: p.shape for n, p in build_theta(config).named().items()}
    if {n: p.shape for n, p in parameters.items()} != expected:
        raise UserError(f"the parameters in {url} are not those of its own configuration.")
