"""The section `data` of the configuration."""

from pydantic import Field

from metatrain.base.section import section_of
from metatrain.data.episode_config import EpisodeConfig
from metatrain.data.tasks import TASK_SOURCES, Classes


class DataConfig(EpisodeConfig):
    """The data of a run, and the source of its tasks."""

    # Left out of what is stored where it is the default: a model's sha256 covers its configuration.
    tasks: section_of(TASK_SOURCES) = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=Classes.Config(), exclude_if=lambda tasks: tasks == Classes.Config()
    )

    @property
    def url(self) -> str | None:
        """The location of the packed data set; None where the task source reads none."""
        return self.path if TASK_SOURCES[self.tasks.name].reads_packed else None
