"""Rows of a data set, made of the images of a source."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from metatrain.data.fingerprint import near_copies
from metatrain.data.images import BadValue, NormalisedImage
from metatrain.data.packing.condition_columns import ConditionColumns
from metatrain.data.packing.decode_ahead import DecodedImage, Normaliser, decode_ahead
from metatrain.data.packing.growth import PackedTask, TaskImages
from metatrain.data.packing.pixel_options import PixelOptions
from metatrain.data.packing.raw_images import RawImage, Source
from metatrain.data.packing.read_ahead import ReadImage, read_ahead
from metatrain.data.packing.summary import Tally


@dataclass(frozen=True, kw_only=True)
class RowMaker:
    """A maker of rows.

    Attributes:
        source: gives the images.
        splits: of the tasks to pack; no other is read.
        packed: the tasks among them that the data set has already.
        dest: the data set, for messages.
        grow: whether the source may lack images of those.
        pixels: decide how an image becomes plain.
        columns: encodes conditions.
        tally: counts what comes of the images.
    """

    source: Source
    splits: Mapping[str, str]
    packed: Mapping[str, PackedTask]
    dest: str
    grow: bool
    pixels: PixelOptions
    columns: ConditionColumns
    tally: Tally

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows, one task after the other, without refused images."""
        for name, error in self.source.refused:
            self.tally.refuse(name, error)
        self.tally.report()
        done, raws = 0, dict[str, list[RawImage]]()
        reads = read_ahead(self._images(raws))
        images = decode_ahead(self._with_normalisers(reads, raws))
        for task, of_task in groupby(images, key=lambda decoded: decoded.image.task):
            yield from self._rows_of(task, of_task, done)
            done += self.source.counts[task]
            self.tally.report()

    def _images(self, raws: dict[str, list[RawImage]]) -> Iterator[RawImage]:
        """Yield the images of the tasks to pack; a task's are in `raws` before the first comes."""
        images = (image for image in self.source.images if image.task in self.splits)
        for task, of_task in groupby(images, key=lambda image: image.task):
            raws[task] = list(of_task)
            yield from raws[task]

    def _with_normalisers(
        self, reads: Iterable[ReadImage], raws: dict[str, list[RawImage]]
    ) -> Iterator[tuple[ReadImage, Normaliser]]:
        for task, of_task in groupby(reads, key=lambda read: read.image.task):
            normaliser = self.pixels.normaliser(raws.pop(task))
            for read in of_task:
                yield read, normaliser

    def _rows_of(
        self, task: str, decoded: Iterable[DecodedImage], start: int
    ) -> Iterator[dict[str, Any]]:
        packed = self.packed.get(task)
        images = TaskImages(task, packed, self.dest)
        for done, (raw, tiles) in enumerate(decoded, start):
            self.tally.progress.update(done)
            if isinstance(tiles, BadValue):
                self.tally.refuse(raw.name, tiles)
                continue
            for name, image in _named(raw.name, tiles):
                try:
                    row = self._row(raw, name, image, images)
                except BadValue as error:
                    self.tally.refuse(name, error)
                    continue
                if row:
                    yield row | {"index": len(images.outlines) - 1}
        if not self.grow:
            images.check_complete()
        self.tally.near_copies += near_copies(images.outlines)

    def _row(
        self, raw: RawImage, name: str, image: NormalisedImage, images: TaskImages
    ) -> dict[str, Any] | None:
        """Return the row of an image but for its index; None where it is packed already."""
        conditions = self.columns.encode(raw)
        values = {**raw.metadata, **conditions}
        if not images.add(name, image.fingerprint, values):
            self.tally.present += 1
            return None
        self.tally.keep(raw, image)
        self.tally.notes.update(f"without '{name}'" for name, v in conditions.items() if not v)
        return {
            "task": raw.task,
            "image": image.data,
            "width": image.width,
            "height": image.height,
            "split": self.splits[raw.task],
            **values,
        }


def _named(name: str, tiles: list[NormalisedImage]) -> list[tuple[str, NormalisedImage]]:
    """Name the tiles of the image `name`, which itself is its only tile where it was not cut."""
    if len(tiles) == 1:
        return [(name, tiles[0])]
    return [(f"{name}, tile {i} of {len(tiles)}", tile) for i, tile in enumerate(tiles, 1)]
