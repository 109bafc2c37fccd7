"""The task source of classes: every task is a class of packed images."""

from collections.abc import Iterator

from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.data.episode_config import EpisodeConfig, TooFew
from metatrain.data.episodes import Episode
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.data.tasks.class_sampler import ClassPlan, ClassSampler
from metatrain.data.tasks.packed_source import PackedSource
from metatrain.data.tasks.sections import ClassesConfig


class Classes(PackedSource[ClassesConfig, ClassPlan]):
    """Classes of packed images.

    Args:
        config: the source's section of the configuration.
        data: the rest of section `data`.
        store: the data set; by default the one at `data.path`, with its cache on this node.
        encoded: read the latents that are stored with the images.

    Attributes:
        reader: reads images with their conditions.

    Raises:
        UserError: when the data set or the cache cannot be used, or the data set lacks a condition
            that the configuration names.
    """

    Config = ClassesConfig

    def __init__(
        self,
        config: ClassesConfig,
        data: EpisodeConfig,
        store: EpisodeStore | None = None,
        *,
        encoded: bool = False,
    ) -> None:
        super().__init__(config, data, store)
        size, channels = data.image_size, data.channels
        latents = self.store.latents if encoded else None
        self.reader = ClassReader(self.store, size, channels, data.conditions, latents)

    @override
    def sampler(
        self,
        split: str,
        *,
        seed: int,
        meta_batch: int,
        queries: int | None = None,
        too_few: TooFew | None = None,
    ) -> ClassSampler:
        return ClassSampler(
            self.store.tasks(split),
            shots=self.data.shots,
            queries=self.data.queries if queries is None else queries,
            meta_batch=meta_batch,
            seed=seed,
            split=split,
            too_few=too_few or self.data.too_few,
        )

    @override
    def read(self, plan: ClassPlan) -> Episode:
        return self.reader.read(plan)

    @override
    def bytes_of(self, plan: ClassPlan) -> int:
        return self.reader.bytes_of([(plan.task, index) for index in plan.images])

    @override
    def encoded_by(self, codec: str) -> "Classes":
        latents, data = self.store.latents, self.data
        if latents is None:
            return self
        if latents.codec != codec:
            raise UserError(
                f"{self.url} has the latents of a codec with sha256 {latents.codec}, and that "
                f"of the run has {codec}; name that codec, or encode the data with this one."
            )
        if (latents.image_size, latents.channels) != (data.image_size, data.channels):
            raise UserError(
                f"{self.url} has the latents of images of {latents.image_size} pixels and "
                f"{latents.channels} channels; set data.image_size and data.channels to these, or "
                f"encode the data in another size."
            )
        return Classes(self.config, data, self.store, encoded=True)

    @property
    @override
    def fingerprint(self) -> str:
        return self.store.fingerprint

    @override
    def task_images(self, split: str, size: int, channels: int) -> Iterator[Tensor]:
        return self.store.task_images(split, size, channels)
