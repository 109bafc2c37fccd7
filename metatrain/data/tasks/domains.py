"""The task source of domains: a task is a target domain, to which simulated images are refined."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.episode_config import EpisodeConfig, TooFew
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.packed.manifest import SPLITS
from metatrain.data.packed.store import EpisodeStore, ImagePlace, Task
from metatrain.data.simulated import SIMULATED
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.data.tasks.class_sampler import ClassPlan, ClassSampler
from metatrain.data.tasks.packed_source import PackedSource
from metatrain.data.tasks.random_streams import random_stream, stream_key
from metatrain.data.tasks.sections import DomainsConfig

# The purpose of the random streams, see `random_streams`; those of classes are others.
_SIMULATED = 2


@dataclass(frozen=True)
class DomainPlan:
    """The real images of one episode, and the simulated ones, `variants` beside each."""

    real: ClassPlan
    simulated: tuple[ImagePlace, ...]


@dataclass(frozen=True)
class DomainSampler:
    """Plans of the episodes of one split: every domain comes once before any comes twice."""

    domains: ClassSampler
    simulated: Sequence[ImagePlace]
    variants: int
    key: int

    @property
    def meta_batch(self) -> int:
        """Episodes of an outer step."""
        return self.domains.meta_batch

    @property
    def epoch(self) -> int:
        """The number of domains."""
        return self.domains.epoch

    def plan(self, step: int, slot: int) -> DomainPlan:
        """Return the plan of `slot` in outer step `step`; simulated images repeat if too few."""
        real = self.domains.plan(step, slot)
        count, available = self.variants * len(real.images), len(self.simulated)
        stream = random_stream(self.key, _SIMULATED, step, slot)
        numbers = stream.choice(available, count, replace=available < count)
        return DomainPlan(real, tuple(self.simulated[number] for number in numbers))


class Domains(PackedSource[DomainsConfig, DomainPlan]):
    """Target domains, the tasks of a packed data set that are not simulated.

    An example's target is an unlabelled real image, and its condition `simulated` [N, C, H, W]
    simulated ones. Simulated images are those of all splits: what is held out is the domain.

    Args:
        config: the source's section of the configuration.
        data: the rest of section `data`.
        store: the data set; by default the one at `data.path`, with its cache on this node.

    Raises:
        UserError: when the data set or the cache cannot be used, or it has no simulated image.
    """

    Config = DomainsConfig

    def __init__(
        self, config: DomainsConfig, data: EpisodeConfig, store: EpisodeStore | None = None
    ) -> None:
        super().__init__(config, data, store)
        if data.channels == 4:
            raise UserError(
                "data.channels is 4, and images to refine have 1 or 3; choose one of these."
            )
        self.reader = ClassReader(self.store, data.image_size, data.channels)
        tasks = [task for split in SPLITS for task in self.store.tasks(split)]
        self._simulated = [
            (task, index)
            for task in tasks
            if self._is_simulated(task)
            for index in range(task.count)
        ]
        if not self._simulated:
            raise UserError(
                f"{self.url} has no task '{printable(config.simulated)}' of simulated images; pack "
                f"them in a folder of that name beside the domains, or set data.tasks.simulated."
            )

    @classmethod
    @override
    def conditions(cls, config: DomainsConfig, data: EpisodeConfig) -> dict[str, tuple[int, ...]]:
        return {SIMULATED: (config.variants, data.channels, data.image_size, data.image_size)}

    @override
    def sampler(
        self,
        split: str,
        *,
        seed: int,
        meta_batch: int,
        queries: int | None = None,
        too_few: TooFew | None = None,
    ) -> DomainSampler:
        domains = ClassSampler(
            [task for task in self.store.tasks(split) if not self._is_simulated(task)],
            shots=self.data.shots,
            queries=self.data.queries if queries is None else queries,
            meta_batch=meta_batch,
            seed=seed,
            split=split,
            too_few=too_few or self.data.too_few,
        )
        return DomainSampler(
            domains, self._simulated, self.config.variants, stream_key(seed, split)
        )

    @override
    def read(self, plan: DomainPlan) -> Episode:
        name, count = plan.real.task.name, len(plan.real.images)
        images = self.reader.examples(name, _places(plan)).target
        simulated = images[count:].unflatten(0, (count, self.config.variants))
        examples = Examples(images[:count], {SIMULATED: simulated})
        return Episode(name, *examples.split(len(plan.real.support)), plan.real.seed)

    @override
    def bytes_of(self, plan: DomainPlan) -> int:
        return self.reader.bytes_of(_places(plan))

    @property
    @override
    def fingerprint(self) -> str:
        decides = [super().fingerprint, self.store.fingerprint]
        return hashlib.sha256("/".join(decides).encode()).hexdigest()

    def _is_simulated(self, task: Task) -> bool:
        return f"{task.name}/".startswith(f"{self.config.simulated}/")


def _places(plan: DomainPlan) -> list[ImagePlace]:
    return [*((plan.real.task, index) for index in plan.real.images), *plan.simulated]
