"""The task source of augmentations: a task is one image, its examples views of it.

UMTRA (Khodadadeh, Boloni and Shah 2019, "Unsupervised Meta-Learning for Few-Shot Image
Classification", section 3): among many images few are of one class, so each may be a task.
"""

from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples, concatenated
from metatrain.data.tasks.augmented import augmented
from metatrain.data.tasks.pool import Pool
from metatrain.data.tasks.pooled_source import PooledPlan, PooledSource
from metatrain.data.tasks.random_streams import IMAGES, random_stream, stream_key, turn_of
from metatrain.data.tasks.sections import AugmentationsConfig


@dataclass(frozen=True)
class ViewSampler:
    """Plans of the episodes of one split: every image comes once before any comes twice."""

    pool: Pool
    key: int
    meta_batch: int
    shots: int
    queries: int

    @property
    def epoch(self) -> int:
        """The number of images."""
        return len(self.pool)

    def plan(self, step: int, slot: int) -> PooledPlan:
        """Return the plan of `slot` in outer step `step`."""
        image = self.pool[turn_of(self.key, step * self.meta_batch + slot, self.epoch)]
        seed = int(random_stream(self.key, IMAGES, step, slot).integers(2**62))
        task, index = image
        return PooledPlan(f"{task.name}, image {index}", (image,), self.shots, self.queries, seed)


class Augmentations(PooledSource[AugmentationsConfig]):
    """Views of single packed images; all views of an image have its conditions.

    Args:
        config: the source's section of the configuration.
        data: the rest of section `data`.
        store: the data set; by default the one at `data.path`, with its cache on this node.

    Raises:
        UserError: when the data set or the cache cannot be used.
    """

    Config = AugmentationsConfig

    @override
    def pooled_sampler(
        self, split: str, *, seed: int, meta_batch: int, queries: int
    ) -> ViewSampler:
        pool = Pool(self.store, split)
        if not len(pool):
            raise UserError(f"split '{split}' of {self.url} has no image; pack more of them.")
        return ViewSampler(pool, stream_key(seed, split), meta_batch, self.data.shots, queries)

    @override
    def read_pooled(self, plan: PooledPlan) -> Episode:
        image, count = self.reader.examples(plan.name, plan.images), plan.shots + plan.queries
        copies = concatenated([image] * count)
        stream = np.random.Generator(np.random.Philox(key=plan.seed))
        views = augmented(copies.target, self.config.augmentation, stream)
        support, query = Examples(views, copies.given).split(plan.shots)
        return Episode(plan.name, support, query, plan.seed)
