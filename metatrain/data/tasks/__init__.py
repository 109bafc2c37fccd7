"""Task sources: pure functions from (seed, split, step, slot) to episodes."""

from metatrain.base.registry import Registry
from metatrain.data.tasks.classes import Classes
from metatrain.data.tasks.source import EpisodeSampler, TaskSource

TASK_SOURCES: Registry[type[TaskSource]] = Registry("metatrain.tasks", {"classes": Classes})

__all__ = ["TASK_SOURCES", "Classes", "EpisodeSampler", "TaskSource"]
