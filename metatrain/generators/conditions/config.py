"""The key `conditions` of a generator's section."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from metatrain.base.section import Section, section_of
from metatrain.generators.conditions.registry import ENCODERS
from metatrain.generators.conditions.sections import EncoderConfig

# The condition that every generator has.
SUPPORT = "support"


def plain_conditions(values: Any) -> Any:
    """Read `[support, text]`, `text: text` and `text: {}` as `text: {name: text}`.

    Raises:
        ValueError: when a condition is named as the support.
    """
    if isinstance(values, list | tuple):
        values = {name: name for name in values}
    if not isinstance(values, Mapping):
        return values
    sections = {key: {"name": v} if isinstance(v, str) else v for key, v in values.items()}
    if sections.pop(SUPPORT, {"name": SUPPORT}) != {"name": SUPPORT}:
        raise ValueError("the support has no encoder to choose; leave it out.")
    return {
        key: {"name": key, **section} if isinstance(section, Mapping) else section
        for key, section in sections.items()
    }


NO_CONDITIONS: dict[str, EncoderConfig] = {}
Conditions = Annotated[
    dict[str, section_of(ENCODERS.sections)],
    BeforeValidator(plain_conditions),
    # Left out where there are none, since the sha256 of a model covers its configuration.
    Field(
        exclude_if=lambda conditions: not conditions,
        description="Encoders of conditions beside the support, as [support, text, audio].",
    ),
]


def conditions_of(generator: Section) -> Mapping[str, EncoderConfig]:
    """Return the encoders of a generator's section, or of the networks that it combines."""
    networks = getattr(generator, "of", generator)
    return getattr(networks, "conditions", NO_CONDITIONS)


def kinds_of(generator: Section) -> dict[str, str]:
    """Return by name the kinds of the conditions that a generator is given with each image."""
    kinds = {name: encoder.kind for name, encoder in conditions_of(generator).items()}
    captions = getattr(generator, "captions", None)
    return kinds | ({captions: "text"} if captions else {})
