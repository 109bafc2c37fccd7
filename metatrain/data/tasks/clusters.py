"""The task source of clusters: tasks are groups of images that look alike, found without labels.

CACTUs (Hsu, Levine and Finn 2019, "Unsupervised Learning via Meta-Learning", section 3): several
partitions of unlabelled images, of which each cluster is a task.
"""

import hashlib
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.data.episode_config import EpisodeConfig
from metatrain.data.episodes import Episode
from metatrain.data.packed.store import EpisodeStore, Task
from metatrain.data.tasks.class_sampler import ClassSampler
from metatrain.data.tasks.grouping import read_grouping
from metatrain.data.tasks.pool import Pool
from metatrain.data.tasks.pooled_source import PooledPlan, PooledSource
from metatrain.data.tasks.sections import ClustersConfig


@dataclass(frozen=True)
class ClusterSampler:
    """Plans of the episodes of clusters, sampled as if they were classes."""

    classes: ClassSampler
    members: dict[Task, Tensor]
    pool: Pool

    @property
    def meta_batch(self) -> int:
        """Episodes of an outer step."""
        return self.classes.meta_batch

    @property
    def epoch(self) -> int:
        """The number of clusters."""
        return self.classes.epoch

    def plan(self, step: int, slot: int) -> PooledPlan:
        """Return the plan of `slot` in outer step `step`."""
        plan = self.classes.plan(step, slot)
        members = self.members[plan.task]
        images = tuple(self.pool[int(members[index])] for index in plan.images)
        return PooledPlan(plan.task.name, images, len(plan.support), len(plan.query), plan.seed)


class Clusters(PooledSource[ClustersConfig]):
    """Clusters of packed images; those with too few images for an episode are left out.

    Args:
        config: the source's section of the configuration.
        data: the rest of section `data`.
        store: the data set; by default the one at `data.path`, with its cache on this node.

    Raises:
        UserError: when the data set, the cache or the grouping cannot be used.
    """

    Config = ClustersConfig

    def __init__(
        self, config: ClustersConfig, data: EpisodeConfig, store: EpisodeStore | None = None
    ) -> None:
        super().__init__(config, data, store)
        grouping, self._sha256 = read_grouping(config.file, self.store)
        # By cluster, the numbers of its images in the pool of its split.
        self._members: dict[Task, Tensor] = {}
        for split in config.splits:
            if split not in grouping.groups:
                raise UserError(
                    f"{config.file} has no groups of split '{split}', which data.tasks.splits "
                    f"names; leave it out there, or group it too."
                )
            for partition, groups in enumerate(grouping.groups[split]):
                for group, images in _members(groups):
                    name = f"cluster {group} of partition {partition}"
                    self._members[Task(name, split, len(images))] = images

    @override
    def pooled_sampler(
        self, split: str, *, seed: int, meta_batch: int, queries: int
    ) -> ClusterSampler:
        members = {task: m for task, m in self._members.items() if task.split == split}
        classes = ClassSampler(
            list(members),
            shots=self.data.shots,
            queries=queries,
            meta_batch=meta_batch,
            seed=seed,
            split=split,
            too_few="skip",
        )
        return ClusterSampler(classes, members, Pool(self.store, split))

    @override
    def read_pooled(self, plan: PooledPlan) -> Episode:
        examples = self.reader.examples(plan.name, plan.images)
        return Episode(plan.name, *examples.split(plan.shots), plan.seed)

    @property
    @override
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint}/{self._sha256}".encode()).hexdigest()


def _members(groups: Tensor) -> list[tuple[int, Tensor]]:
    """List each group's number with its images, without what is in no group."""
    order = groups.argsort(stable=True)
    numbers, counts = groups[order].unique_consecutive(return_counts=True)
    parts = zip(numbers.tolist(), order.split(counts.tolist()), strict=True)
    return [(number, images) for number, images in parts if number >= 0]
