"""Models to give away: in half precision, and without the places of the machine they come from."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TypeVar

from metatrain.base.errors import UserError
from metatrain.base.section import Section, location_fields
from metatrain.config import Config
from metatrain.generators.frozen import Frozen
from metatrain.generators.objectives.sections import DistillConfig
from metatrain.model.model import Model
from metatrain.model.precision import rounded
from metatrain.storage.files import is_local

_Section = TypeVar("_Section", bound=Section)


def portable(model: Model, name: str) -> Model:
    """Return a model to give away: rounded to half precision, with a name in place of its run's.

    What it computes is that of its file, exactly, since the file has half precision. It is to be
    calibrated and evaluated as it is here, after rounding. Absolute paths and URLs of its training
    are left out; relative paths stay, as committed configurations have them.

    Raises:
        UserError: when it was adapted, or half precision cannot hold a parameter.
    """
    if model.support is not None:
        raise UserError("the model has been adapted; give the one that it came from.")
    half = rounded(model, "fp16")
    return replace(half, config=_named(model.config, name, model.frozen))


def _named(config: Config, name: str, inside: Collection[str]) -> Config:
    data = _without_places(config.data)
    data = data.model_copy(update={"tasks": _without_places(data.tasks)})
    update: dict[str, Section] = {
        "run": _without_places(config.run).model_copy(update={"name": name}),
        "data": data,
        "validation": _without_places(config.validation),
    }
    codec, objective = config.codec, config.objective
    if isinstance(objective, DistillConfig):
        # Nothing reads it any more; the hash tells which it was.
        teacher = objective.teacher.model_copy(
            update={"path": PurePosixPath(objective.teacher.path).name}
        )
        update["objective"] = objective.model_copy(update={"teacher": teacher})
    if isinstance(codec, Frozen) and codec.sha256 in inside:
        # Its file is in the model's, and found by its hash.
        update["codec"] = codec.model_copy(update={"path": PurePosixPath(codec.path).name})
    return config.model_copy(update=update)


def _without_places(section: _Section) -> _Section:
    """Return a section with the defaults of locations that mean something on one machine alone."""
    fields = type(section).model_fields
    elsewhere = [
        key for key in location_fields(type(section)) if _is_absolute(getattr(section, key))
    ]
    return section.model_copy(update={key: fields[key].get_default() for key in elsewhere})


def _is_absolute(place: str | None) -> bool:
    if place is None:
        return False
    return not is_local(place) or place.startswith("~") or PurePosixPath(place).is_absolute()
