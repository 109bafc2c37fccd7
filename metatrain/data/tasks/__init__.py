"""Task sources: pure functions from (seed, split, step, slot) to episodes."""

from typing import TYPE_CHECKING

from metatrain.base.lazy_names import lazy_names
from metatrain.base.registry import BuiltIn, Registry
from metatrain.data.tasks.sections import (
    AugmentationsConfig,
    ClassesConfig,
    ClustersConfig,
    DegradationsConfig,
    DomainsConfig,
    PreferencesConfig,
)

if TYPE_CHECKING:
    from metatrain.data.tasks.augmentations import Augmentations
    from metatrain.data.tasks.classes import Classes
    from metatrain.data.tasks.clusters import Clusters
    from metatrain.data.tasks.degradations import Degradations
    from metatrain.data.tasks.domains import Domains
    from metatrain.data.tasks.preferences import Preferences
    from metatrain.data.tasks.source import EpisodeSampler, TaskSource

TASK_SOURCES: "Registry[type[TaskSource]]" = Registry(
    {
        "classes": BuiltIn(ClassesConfig, f"{__name__}.classes:Classes"),
        "degradations": BuiltIn(DegradationsConfig, f"{__name__}.degradations:Degradations"),
        "clusters": BuiltIn(ClustersConfig, f"{__name__}.clusters:Clusters"),
        "augmentations": BuiltIn(AugmentationsConfig, f"{__name__}.augmentations:Augmentations"),
        "domains": BuiltIn(DomainsConfig, f"{__name__}.domains:Domains"),
        "preferences": BuiltIn(PreferencesConfig, f"{__name__}.preferences:Preferences"),
    },
    group="metatrain.tasks",
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

__getattr__ = lazy_names(
    __name__,
    {
        "Augmentations": f"{__name__}.augmentations",
        "Classes": f"{__name__}.classes",
        "Clusters": f"{__name__}.clusters",
        "Degradations": f"{__name__}.degradations",
        "Domains": f"{__name__}.domains",
        "Preferences": f"{__name__}.preferences",
        "EpisodeSampler": f"{__name__}.source",
        "TaskSource": f"{__name__}.source",
    },
)
