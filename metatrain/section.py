"""What every part of the configuration is made of: frozen, strict, documented sections."""

from collections.abc import Mapping
from typing import Annotated, Any, Union

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the configuration; a component declares its own beside its code."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def section_of(registry: Mapping[str, Any]) -> Any:
    """The type of a section whose `name` picks a component: one of the registry's `Config`s."""
    configs = tuple(component.Config for component in registry.values())
    if len(configs) == 1:
        return configs[0]
    return Annotated[Union[configs], Field(discriminator="name")]  # noqa: UP007
