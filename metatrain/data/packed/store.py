"""Reading a packed data set: one ranged read a task, and nothing that is not verified.

A data set is a folder of Parquet shards with a `manifest.parquet`, at any fsspec URL. The manifest
says where in which shard the images of a task lie, so opening a data set costs one small read and
reading a task one more. `metatrain.data.packing.pack` writes what is read here.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa
from torch import Tensor

from metatrain.base.errors import MissingStepError, UserError
from metatrain.data.images import shape_of
from metatrain.data.packed.manifest import MANIFEST, SPLITS, RowGroup, by_task, parse_manifest
from metatrain.data.packed.row_groups import RowGroupReader
from metatrain.data.pictures import decode
from metatrain.storage.disk_cache import DiskCache
from metatrain.storage.files import MissingError, asking, filesystem_of, read_file
from metatrain.storage.read_counts import Traffic


@dataclass(frozen=True)
class Task:
    """Images that belong together.

    Attributes:
        name: the task's.
        split: 'train', 'val' or 'test'.
        count: how many images it has.
        sources: of each image, the index of the first image from the same source (such as an icon
            set or a scanner); empty where every image has a source of its own, or none is known.
    """

    name: str
    split: str
    count: int
    sources: tuple[int, ...] = ()


class EpisodeStore:
    """A packed data set, open for reading; safe to share between threads.

    Attributes:
        url: where the data set lies.
        manifest: the bytes of the manifest that is read by.
        fingerprint: sha256 of the manifest, which itself holds the sha256 of everything else.
        row_groups: the rows of the manifest.
        footers: the sha256 of each shard's footer, by the shard's name.
    """

    def __init__(
        self, url: str, cache: DiskCache | None = None, manifest: bytes | None = None
    ) -> None:
        """Read the manifest of the data set at `url`, whose images `cache` is to keep.

        An earlier `manifest` of it may be given, to see it as it was then.

        Raises:
            UserError: when there is no data set, its manifest is damaged or cannot be reached, or
                the cache has no room for a single one of its row groups.
        """
        self.url = url.rstrip("/")
        self.manifest = self._read_manifest() if manifest is None else manifest
        self.fingerprint = hashlib.sha256(self.manifest).hexdigest()
        with self._sound(MANIFEST):
            self.row_groups, self.footers = parse_manifest(self.manifest)
            self._by_task = by_task(self.row_groups)
        if cache:
            cache.check_room(max(group.length for group in self.row_groups))
        self._reader = RowGroupReader(self.url, cache)

    @property
    def traffic(self) -> Traffic:
        """What reading has cost so far."""
        return self._reader.traffic

    def tasks(self, split: str) -> list[Task]:
        """The tasks of `split` ('train', 'val' or 'test'), sorted by name."""
        if split not in SPLITS:
            raise UserError(f"there is no split '{split}'; the splits are {', '.join(SPLITS)}.")
        return [
            Task(name, split, sum(group.count for group in groups), _sources(groups))
            for name, groups in sorted(self._by_task.items())
            if groups[0].split == split
        ]

    def read(self, task: Task, indices: Sequence[int] | None = None) -> list[bytes]:
        """The encoded images of `task` at `indices`, or all of them in their order.

        One request, unless the task is so large that they lie far apart.

        Raises:
            UserError: when bytes are missing or out of reach, or are not those that were packed.
        """
        indices = range(task.count) if indices is None else indices
        places = self._places(task, indices)
        wanted: dict[RowGroup, list[int]] = {}
        for group, at in places:
            wanted.setdefault(group, []).append(at)
        read = self._reader.read(list(wanted))
        images = {
            group: self._images(group, data, wanted[group])
            for group, data in zip(wanted, read, strict=True)
        }
        return [images[group][at] for group, at in places]

    def shape(self) -> tuple[int, int]:
        """The size that the first image has on its shorter side, and its channels (1 or 3)."""
        task = next(task for split in SPLITS for task in self.tasks(split))
        height, width, channels = shape_of(self.read(task, [0])[0])
        return min(height, width), channels

    def refuse_enlarging(self, size: int) -> None:
        """That images as large as the first need not be enlarged to `size` pixels, which blurs.

        Raises:
            UserError: when they must be, or the data cannot be read.
        """
        packed, _ = self.shape()
        if packed < size:
            raise UserError(
                f"{self.url} holds images of {packed} pixels, and {size} are asked for, which "
                f"would only blur them; use a model or a size of {packed} pixels, or pack the "
                f"originals with --size {size} or larger."
            )

    def task_images(self, split: str, size: int, channels: int) -> Iterator[Tensor]:
        """Yield all images [N, C, H, W] of one task of `split` after the other.

        Args:
            split: 'train', 'val' or 'test'.
            size: height and width in pixels.
            channels: 1 for grey, 3 for RGB.

        Raises:
            UserError: when they cannot be read.
        """
        for task in self.tasks(split):
            yield decode(self.read(task), size, channels)

    def bytes_of(self, task: Task, indices: Sequence[int]) -> int:
        """How many bytes `read` would ask for."""
        return sum(group.length for group in {group for group, _ in self._places(task, indices)})

    def _places(self, task: Task, indices: Sequence[int]) -> list[tuple[RowGroup, int]]:
        """In which row group each image lies, and the how-many-th of it."""
        groups = self._by_task[task.name]
        ends = list(accumulate(group.count for group in groups))
        found = [bisect_right(ends, index) for index in indices]
        return [
            (groups[i], index - ends[i] + groups[i].count)
            for i, index in zip(found, indices, strict=True)
        ]

    def _images(
        self, group: RowGroup, data: bytes | memoryview, wanted: list[int]
    ) -> dict[int, bytes]:
        with self._sound(group.file):
            return dict(zip(wanted, group.images_at(data, wanted), strict=True))

    def _read_manifest(self) -> bytes:
        try:
            return read_file(f"{self.url}/{MANIFEST}")
        except MissingError:
            fs, root = filesystem_of(self.url)
            if not asking(self.url, lambda: fs.exists(root)):
                raise MissingError(f"there is nothing at {self.url}; check the path.") from None
            raise MissingStepError(
                f"{self.url} is not a packed data set, for it has no {MANIFEST}; pack it first.",
                step="pack",
            ) from None

    @contextmanager
    def _sound(self, file: str) -> Iterator[None]:
        """Whatever fails inside means that `file` is not what `metatrain pack` wrote."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
            reason = str(error).strip("'\n").partition("\n")[0].rstrip(".")
            raise UserError(
                f"{self.url}/{file} is malformed ({reason}); copy or pack the data set again."
            ) from error


def _sources(groups: Sequence[RowGroup]) -> tuple[int, ...]:
    """A task's sources, put together from those of its row groups."""
    sources: list[int] = []
    for group in groups:
        sources += group.sources or range(len(sources), len(sources) + group.count)
    return tuple(sources) if any(group.sources for group in groups) else ()
