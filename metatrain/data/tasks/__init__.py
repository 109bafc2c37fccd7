"""Task sources: pure functions from (seed, split, step, slot) to episodes."""

from metatrain.base.registry import Registry
from metatrain.data.tasks.augmentations import Augmentations
from metatrain.data.tasks.classes import Classes
from metatrain.data.tasks.clusters import Clusters
from metatrain.data.tasks.degradations import Degradations
from metatrain.data.tasks.domains import Domains
from metatrain.data.tasks.preferences import Preferences
from metatrain.data.tasks.source import EpisodeSampler, TaskSource

TASK_SOURCES: Registry[type[TaskSource]] = Registry(
    "metatrain.tasks",
    {
        "classes": Classes,
        "degradations": Degradations,
        "clusters": Clusters,
        "augmentations": Augmentations,
        "domains": Domains,
        "preferences": Preferences,
    },
)

__all__ = [
    "TASK_SOURCES",
    "Augmentations",
    "Classes",
    "Clusters",
    "Degradations",
    "Domains",
    "EpisodeSampler",
    "Preferences",
    "TaskSource",
]
