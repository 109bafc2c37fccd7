"""The places that a stranger's model names, which are not read unasked."""

from collections.abc import Iterator, Mapping
from typing import Any

from metatrain.base.errors import UntrustedError
from metatrain.base.section import Section, location_fields
from metatrain.generators.frozen import Frozen, is_inside
from metatrain.storage.files import is_local


def refuse_places(*sections: Section) -> None:
    """Refuse to read what sections out of a model file name, but for pinned weights near by.

    Those are inside of the model, or on this disk. They are read as tensors, and only if they have
    the hash that they were trained with. Pinned weights of training alone are not read at all.

    Raises:
        UntrustedError: when a section names anything else.
    """
    for section in sections:
        for place in _places(section):
            raise UntrustedError(
                f"the model asks for {place}, and what a model file names is not read unless the "
                f"model is trusted."
            )


def _places(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _places(part)
    if not isinstance(value, Section):
        return
    for name in type(value).model_fields:
        yield from _places(getattr(value, name))
    for name in location_fields(type(value)):
        if (place := getattr(value, name)) and not (name == "path" and _is_harmless(value)):
            yield place


def _is_harmless(value: Section) -> bool:
    if not isinstance(value, Frozen) or not value.sha256:
        return False
    return value.training_only or is_local(value.path) or is_inside(value.sha256)
