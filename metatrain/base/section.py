"""Sections: the frozen, strict, documented parts that a configuration consists of."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Union, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from metatrain.base.secrets import secret_in


class Section(BaseModel):
    """A part of the configuration; each component declares one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def section_of(sections: Mapping[str, type[Section]]) -> Any:
    """Make the type of a section whose `name` picks one of the `sections`; the first by default."""
    first = next(iter(sections))

    def name_of(value: Any) -> Any:
        return value.get("name", first) if isinstance(value, dict) else getattr(value, "name", None)

    tagged = tuple(Annotated[section, Tag(name)] for name, section in sections.items())
    return Annotated[Union[tagged], Discriminator(name_of)]  # noqa: UP007


def _without_secret(url: str) -> str:
    if secret := secret_in(url):
        raise ValueError(
            f"is a URL with {secret}, and the configuration is printed and stored with every "
            f"model; remove it, and give credentials by the environment."
        )
    return url


# A path or any fsspec URL.
Location = Annotated[str, AfterValidator(_without_secret)]


def location_fields(section: type[Section]) -> list[str]:
    """List the fields of a section, not of those within it, that are locations, or None."""
    fields = section.model_fields.items()
    return [name for name, field in fields if _is_location((field.annotation, *field.metadata))]


def _is_location(types: Iterable[Any]) -> bool:
    return any(
        getattr(part, "func", None) is _without_secret or _is_location(get_args(part))
        for part in types
    )


# A learning rate. Optimisers multiply it by numbers of single precision, which end at 3.4e38.
Rate = Annotated[float, Field(gt=0, le=1e30)]

# A count in a file that a stranger may have written.
Count = Annotated[int, Field(ge=0, lt=2**53)]

# Also the name of a folder, and so valid in every file system and URL.
StableName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
