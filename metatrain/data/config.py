"""The section `data` of the configuration."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from metatrain.base.section import section_of
from metatrain.data.conditions import CONDITIONS
from metatrain.data.episode_config import EpisodeConfig
from metatrain.data.tasks import TASK_SOURCES
from metatrain.data.tasks.sections import ClassesConfig


class DataConfig(EpisodeConfig):
    """The data of a run, and the source of its tasks."""

    # These two are left out of what is stored where they are the default, since the sha256 of a
    # model covers its configuration.
    conditions: dict[str, section_of(CONDITIONS.sections)] = Field(  # pyright: ignore[reportInvalidTypeForm]
        default={},
        exclude_if=lambda conditions: not conditions,
        description="Conditions of each image: a packed column and its kind, as caption: text.",
    )
    tasks: section_of(TASK_SOURCES.sections) = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=ClassesConfig(), exclude_if=lambda tasks: tasks == ClassesConfig()
    )

    @field_validator("conditions", mode="before")
    @classmethod
    def _read_names_of_kinds(cls, values: Any) -> Any:
        """Read `caption: text` as `caption: {name: text}`."""
        if not isinstance(values, dict):
            return values
        return {key: {"name": v} if isinstance(v, str) else v for key, v in values.items()}

    @model_validator(mode="after")
    def _bits_suit_the_channels(self) -> Self:
        if self.bits == 16 and self.channels != 1:
            raise ValueError(
                f"bits is 16, which grey images alone have, and channels is {self.channels}; set "
                f"channels to 1, or bits to 8."
            )
        return self

    @property
    def url(self) -> str | None:
        """The location of the packed data set; None where the task source reads none."""
        return self.path if TASK_SOURCES[self.tasks.name].reads_packed else None

    @property
    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes, by name, of the conditions that the task source gives each example."""
        return TASK_SOURCES[self.tasks.name].conditions(self.tasks, self)
