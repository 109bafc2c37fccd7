"""Reading a packed data set: one ranged read for each task, and every byte verified.

A data set is a folder of Parquet shards with a `manifest.parquet`, at any fsspec URL. The manifest
has the place of each task's values in the shards, so opening a data set costs one small read and
reading a task one more. `metatrain.data.packing.pack` writes data sets.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor

from metatrain.base.errors import MissingStepError, UserError
from metatrain.base.progress import tracked
from metatrain.base.text import reason_of
from metatrain.data.images import Bits, shape_of
from metatrain.data.packed.manifest import (
    IMAGE,
    MALFORMED,
    MANIFEST,
    SPLITS,
    RowGroup,
    alone,
    by_task,
    parse_manifest,
)
from metatrain.data.packed.row_groups import RowGroupReader
from metatrain.data.pictures import decode
from metatrain.storage.disk_cache import DiskCache
from metatrain.storage.files import MissingError, asking, filesystem_of, read_file
from metatrain.storage.read_counts import Traffic


@dataclass(frozen=True)
class Task:
    """Images that belong together.

    Attributes:
        name: the task's name.
        split: 'train', 'val' or 'test'.
        count: the number of its images.
        sources: of each image, the index of the first image from the same source (such as an icon
            set or a scanner); empty where every image has a source of its own, or none is known.
    """

    name: str
    split: str
    count: int
    sources: tuple[int, ...] = ()


# The place of a packed image: its task, and its index within the task.
ImagePlace = tuple[Task, int]


class EpisodeStore:
    """A packed data set, open for reading; threads may share it.

    Attributes:
        url: where the data set lies.
        manifest: the bytes of the manifest.
        fingerprint: sha256 of the manifest, which itself holds the sha256 of everything else.
        row_groups: the rows of the manifest.
        footers: the sha256 of each shard's footer, by the shard's name.
        conditions: by column, the plain values of the section of a condition's kind.
        missing: by column, the number of images that lack a condition, where there are any; None
            where they were not counted.
        latents: the latents that are stored with the images, if any are.
        bits: of a channel of the images, 8 or 16.
    """

    def __init__(
        self, url: str, cache: DiskCache | None = None, manifest: bytes | None = None
    ) -> None:
        """Open the data set at `url`.

        Args:
            url: a path or any fsspec URL.
            cache: keeps on disk what was read.
            manifest: an earlier manifest, to read the data set as it was; the present one by
                default.

        Raises:
            UserError: when there is no data set, its manifest is damaged or cannot be reached, or
                the cache is smaller than one of its row groups.
        """
        self.url = url.rstrip("/")
        self.manifest = self._read_manifest() if manifest is None else manifest
        self.fingerprint = hashlib.sha256(self.manifest).hexdigest()
        with self._refuse_malformed(MANIFEST):
            parsed = parse_manifest(self.manifest)
            self.row_groups, self.footers, self.conditions, self.missing = parsed[:4]
            self.latents = parsed.latents
            self.bits: Bits = parsed.bits
            self._by_task = by_task(self.row_groups)
        if cache:
            cache.check_room(max(group.length for group in self.row_groups))
        self._reader = RowGroupReader(self.url, cache)

    @property
    def traffic(self) -> Traffic:
        """The cost of reading so far."""
        return self._reader.traffic

    def tasks(self, split: str) -> list[Task]:
        """Return the tasks of `split` ('train', 'val' or 'test'), sorted by name."""
        if split not in SPLITS:
            raise UserError(f"there is no split '{split}'; the splits are {', '.join(SPLITS)}.")
        return [
            Task(name, split, sum(group.count for group in groups), _sources(groups))
            for name, groups in sorted(self._by_task.items())
            if groups[0].split == split
        ]

    def read(self, task: Task, indices: Sequence[int] | None = None) -> list[bytes]:
        """Read the encoded images of `task` at `indices`, or all of them in their order.

        Raises:
            UserError: when bytes are missing or out of reach, or are not those that were packed.
        """
        return self.read_columns(task, [IMAGE], indices)[IMAGE]

    def read_columns(
        self, task: Task, columns: Sequence[str], indices: Sequence[int] | None = None
    ) -> dict[str, list[bytes]]:
        """Read the values of several columns at `indices` of `task`, or all in their order.

        It takes one request, unless the task is so large that its row groups lie far apart.

        Raises:
            UserError: when bytes are missing or out of reach, or are not those that were packed.
        """
        indices = range(task.count) if indices is None else indices
        return self._read_places(self._places(task, indices), columns)

    def read_images(
        self, images: Sequence[ImagePlace], columns: Sequence[str]
    ) -> dict[str, list[bytes]]:
        """Read the values of several columns of images that may be of several tasks.

        It takes one request for each place that lies apart from the others.

        Args:
            images: where they are.
            columns: names of columns.

        Raises:
            UserError: when bytes are missing or out of reach, or are not those that were packed.
        """
        return self._read_places(self._places_of(images), columns)

    def read_latents(self, images: Sequence[ImagePlace]) -> list[bytes]:
        """Read the latents of images, and no byte of the images, as `read_images`.

        Raises:
            UserError: when bytes are missing or out of reach, or are not those that were packed.
        """
        assert self.latents, "nobody asks for latents where there are none"
        places = self._places_of(images)
        parts = [(alone(group, self.latents), at) for group, at in places]
        return self._read_places(parts, [IMAGE])[IMAGE]

    def _read_places(
        self, places: Sequence[tuple[RowGroup, int]], columns: Sequence[str]
    ) -> dict[str, list[bytes]]:
        wanted: dict[RowGroup, list[int]] = {}
        for group, at in places:
            wanted.setdefault(group, []).append(at)
        data = dict(zip(wanted, self._reader.read(list(wanted)), strict=True))
        values: dict[tuple[str, RowGroup], dict[int, bytes]] = {}
        for group, indices_within in wanted.items():
            with self._refuse_malformed(group.file):
                for column in columns:
                    read = group.values_at(column, data[group], indices_within)
                    values[column, group] = dict(zip(indices_within, read, strict=True))
        return {column: [values[column, group][at] for group, at in places] for column in columns}

    def shape(self) -> tuple[int, int]:
        """Return the shorter side of the first image in pixels, and its channels (1, 3 or 4)."""
        task = next(task for split in SPLITS for task in self.tasks(split))
        height, width, channels = shape_of(self.read(task, [0])[0])
        return min(height, width), channels

    def refuse_enlarging(self, size: int) -> None:
        """Refuse to enlarge images to `size` pixels, which blurs; the first one stands for all.

        Raises:
            UserError: when the first image is smaller, or cannot be read.
        """
        packed, _ = self.shape()
        if packed < size:
            raise UserError(
                f"{self.url} holds images of {packed} pixels, and {size} are asked for, which "
                f"would only blur them; use a model or a size of {packed} pixels, or pack the "
                f"originals with --size {size} or larger."
            )

    def refuse_other_bits(self, bits: Bits) -> None:
        """Refuse to read images of other bits than `data.bits`.

        Raises:
            UserError: naming both.
        """
        if bits != self.bits:
            raise UserError(
                f"{self.url} holds images of {self.bits} bits, and data.bits is {bits}; set "
                f"data.bits={self.bits}, or pack the originals with --bits {bits}."
            )

    def task_images(self, split: str, size: int, channels: int) -> Iterator[Tensor]:
        """Return all images [N, C, H, W] of one task of `split` after the other.

        Args:
            split: 'train', 'val' or 'test'.
            size: height and width in pixels.
            channels: 1 for grey, 3 for RGB, 4 for RGBA.

        Raises:
            UserError: when they cannot be read.
        """
        tasks = self.tasks(split)
        return self.images_of(tracked("reading tasks", tasks, len(tasks)), size, channels)

    def images_of(self, tasks: Iterable[Task], size: int, channels: int) -> Iterator[Tensor]:
        """Yield all images [N, C, H, W] of one of `tasks` after the other; see `task_images`."""
        for task in tasks:
            yield decode(self.read(task), size, channels)

    def bytes_of(self, task: Task, indices: Sequence[int]) -> int:
        """Return the number of bytes that `read` requests."""
        return self.bytes_of_images([(task, index) for index in indices])

    def bytes_of_images(self, images: Sequence[ImagePlace]) -> int:
        """Return the number of bytes that `read_images` requests."""
        return sum(group.length for group in {group for group, _ in self._places_of(images)})

    def _places_of(self, images: Sequence[ImagePlace]) -> list[tuple[RowGroup, int]]:
        return [place for task, index in images for place in self._places(task, [index])]

    def _places(self, task: Task, indices: Sequence[int]) -> list[tuple[RowGroup, int]]:
        """Return the row group of each index, and the index within it."""
        groups = self._by_task[task.name]
        ends = list(accumulate(group.count for group in groups))
        positions = [bisect_right(ends, index) for index in indices]
        return [
            (groups[i], index - ends[i] + groups[i].count)
            for i, index in zip(positions, indices, strict=True)
        ]

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
    def _refuse_malformed(self, file: str) -> Iterator[None]:
        """Name `file` in place of any error inside: `metatrain pack` did not write that file."""
        try:
            yield
        except MALFORMED as error:
            raise UserError(
                f"{self.url}/{file} is malformed ({reason_of(error)}); copy or pack the data "
                f"set again."
            ) from error


def _sources(groups: Sequence[RowGroup]) -> tuple[int, ...]:
    """Join a task's sources from those of its row groups."""
    sources: list[int] = []
    for group in groups:
        sources += group.sources or range(len(sources), len(sources) + group.count)
    return tuple(sources) if any(group.sources for group in groups) else ()
