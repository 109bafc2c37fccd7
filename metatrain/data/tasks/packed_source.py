"""Task sources that read a packed data set."""

from typing import Self, TypeVar

from typing_extensions import override

from metatrain.base.section import Section
from metatrain.base.text import counted, printable
from metatrain.data.conditions import CONDITIONS
from metatrain.data.episode_config import EpisodeConfig
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.source import TaskSource
from metatrain.storage.disk_cache import DiskCache

C = TypeVar("C", bound=Section)
Plan = TypeVar("Plan")


class PackedSource(TaskSource[C, Plan]):
    """A source of tasks from the packed data set at `data.path`.

    Args:
        config: the source's section of the configuration.
        data: the rest of section `data`.
        store: the data set; by default the one at `data.path`, with its cache on this node.

    Raises:
        UserError: when the data set or the cache cannot be used, or its images have other bits
            than the configuration names.
    """

    reads_packed = True

    def __init__(self, config: C, data: EpisodeConfig, store: EpisodeStore | None = None) -> None:
        super().__init__(config, data)
        self.store = store or _open_store(data)
        self.store.refuse_other_bits(data.bits)
        self.traffic = self.store.traffic

    @classmethod
    @override
    def conditions(cls, config: C, data: EpisodeConfig) -> dict[str, tuple[int, ...]]:
        shapes = {
            name: CONDITIONS[section.model_dump()["name"]](
                section, data.image_size, data.channels
            ).shape
            for name, section in data.conditions.items()
        }
        return {name: shape for name, shape in shapes.items() if shape is not None}

    @property
    @override
    def url(self) -> str:
        return self.store.url

    @property
    @override
    def snapshot(self) -> bytes:
        return self.store.manifest

    @property
    @override
    def remarks(self) -> list[str]:
        images = sum(group.count for group in self.store.row_groups)
        missing = self.store.missing or {}
        shares = {name: 1 - missing.get(name, 0) / images for name in self.data.conditions}
        return [
            f"{share:.1%} of {counted(images, 'image')} have the condition '{printable(name)}'."
            for name, share in shares.items()
            if share < 1
        ]

    @override
    def refuse_enlarging(self, size: int) -> None:
        self.store.refuse_enlarging(size)

    @override
    def as_of(self, snapshot: bytes) -> Self | None:
        then = _open_store(self.data, snapshot)
        if not set(then.row_groups) <= set(self.store.row_groups):
            return None
        return type(self)(self.config, self.data, then)


def _open_store(data: EpisodeConfig, manifest: bytes | None = None) -> EpisodeStore:
    cache = DiskCache(data.cache_dir, data.cache_bytes) if data.cache_dir else None
    return EpisodeStore(data.path, cache, manifest)
