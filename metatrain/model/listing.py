"""A list of the models at hand, from the beginnings of their files and from their cards."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.base.text import counted
from metatrain.config import Config, parse_config
from metatrain.model.format import FORMAT, SUPPORT
from metatrain.model.named import named_model, named_models
from metatrain.model.parameter_types import PARAMETERS
from metatrain.model.places import ADAPTED, model_url, run_models, state_folder
from metatrain.storage.files import MissingError, read_file
from metatrain.storage.tensor_file import TensorFile


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """A model at hand.

    Attributes:
        reference: what to call it by: its name, the folder of its run, or its file.
        file: its model file.
        bytes: the size of the file.
        parameters: the number of its parameters.
        data: the data set that it was trained on.
        image_size: height and width of its images in pixels.
        channels: 1 for grey, 3 for colour, 4 for colour and transparency.
        shots: images of a support in training.
        about: the first sentence of its card; how it was trained where it has no card.
        card: its card; None where it has none.
    """

    reference: str
    file: str
    bytes: int
    parameters: int
    data: str
    image_size: int
    channels: int
    shots: int
    about: str
    card: str | None


def models() -> list[ListedModel]:
    """List the models with names, see `metatrain.load`, and those of ./runs and of the studio.

    The studio's are those that were adapted in its own folder, without `--dir`. A file that is no
    model of this version is left out, and the log says why.

    Raises:
        UserError: when METATRAIN_MODELS names what is no folder.
    """
    named = {model.name: model.file for model in named_models().values()}
    known = {Path(file).resolve() for file in named.values()}
    runs = {str(file.parent): str(file) for file in run_models() if file.resolve() not in known}
    studio = {str(file): str(file) for file in _studio_models()}
    listed = []
    for reference, file in (named | runs | studio).items():
        try:
            listed.append(_listed(reference, file))
        except UserError as error:
            say(f"Note: {reference} is left out: {error}")
    return listed


def _studio_models() -> list[Path]:
    """Return the files of models that were adapted in the studio, the oldest first."""
    try:
        folder = state_folder("studio")
    except UserError:
        return []  # nor has the studio been used without a folder of its own
    dated = []
    for file in folder.glob(f"*/{ADAPTED}"):
        with suppress(FileNotFoundError):  # the studio has deleted it meanwhile
            dated.append((file.stat().st_mtime, file))
    return [file for _, file in sorted(dated)]


def listed_model(reference: str) -> ListedModel:
    """Return the entry of one model, whatever `reference` means it by.

    Raises:
        UserError: when there is none, or it is damaged.
    """
    return _listed(reference, model_url(reference))


def _listed(reference: str, file: str) -> ListedModel:
    tensors = TensorFile(file)
    config = _config(tensors)
    model, data = named_model(reference), config.data
    card = _read_card(model.card if model else str(Path(file).with_suffix(".md")))
    return ListedModel(
        reference=reference,
        file=file,
        bytes=tensors.bytes,
        parameters=sum(
            prod(s) for n, s in tensors.shapes.items() if n.startswith(f"{PARAMETERS}/")
        ),
        data=_benchmark(tensors.metadata) or data.url or data.tasks.name,
        image_size=data.image_size,
        channels=data.channels,
        shots=data.shots,
        about=_first_sentence(card) or _training(config, tensors),
        card=card,
    )


def _config(tensors: TensorFile) -> Config:
    version = tensors.metadata.get("format")
    if version != FORMAT:
        raise UserError(f"{tensors.url} is no model of the format {FORMAT}.")
    try:
        return parse_config(json.loads(tensors.metadata["config"]))
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{tensors.url} has no configuration that can be read.") from error


def _benchmark(metadata: Mapping[str, str]) -> str | None:
    """Return the name of the data set that a model is calibrated on."""
    try:
        values: Any = json.loads(metadata.get("calibration", "{}"))
        return str(values["benchmark"]) if "benchmark" in values else None
    except (ValueError, TypeError, RecursionError):
        return None


def _training(config: Config, tensors: TensorFile) -> str:
    images = tensors.shapes[SUPPORT][0] if SUPPORT in tensors.shapes else 0
    adapted = f"adapted to {counted(images, 'image')}; " if images else ""
    step = tensors.metadata.get("step", "unknown")
    return f"{adapted}{config.learner.name}, outer step {step}, no card"


def _read_card(url: str) -> str | None:
    try:
        return read_file(url).decode(errors="replace")
    except MissingError:
        return None


def _first_sentence(card: str | None) -> str | None:
    """Return the first sentence of a card's first line that is no heading."""
    lines = (line.strip() for line in (card or "").splitlines())
    line = next((line for line in lines if line and not line.startswith("#")), None)
    return line and re.split(r"(?<=[.!?]) ", line)[0]
