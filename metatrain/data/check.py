"""Checking a data set: every byte against its hash, every count, and every image by decoding it."""

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.data.images import BadImage, to_array
from metatrain.data.packed.manifest import SPLITS, RowGroup
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import sha256_of
from metatrain.data.pictures import contact_sheet, decode
from metatrain.storage.files import read_file, write_file

# Shards that are in memory at once.
_AT_ONCE = 2
_SHEET_TASKS, _SHEET_SIZE = 64, 64


@dataclass
class DataCard:
    """What a data set holds, and what is wrong with it.

    Attributes:
        url: where it lies.
        tasks: how many each split has.
        images: how many each split has.
        stored: bytes of the images' row groups.
        sides: how many images there are of each width and height in pixels.
        licences: how many images there are of each licence, where the data set says so.
        faults: a sentence for everything that is not as it was packed.
    """

    url: str
    tasks: dict[str, int]
    images: dict[str, int]
    stored: int
    sides: Counter[tuple[int, int]] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.url]
        lines += [f"  {s}: {self.tasks[s]:,} tasks, {self.images[s]:,} images" for s in SPLITS]
        lines.append(f"  stored: {self.stored / 1e6:,.1f} MB")
        lines += [f"  {n:,} images of {w} x {h} pixels" for (w, h), n in self.sides.most_common(5)]
        if len(self.sides) > 5:
            lines.append(f"  and {len(self.sides) - 5:,} other sizes")
        lines += [f"  {n:,} images under {name}" for name, n in self.licences.most_common()]
        return "\n".join(lines)


def check(url: str) -> DataCard:
    """Read all of the data set at `url` and compare it with its manifest.

    Raises:
        UserError: when there is no data set, or it cannot be reached.
    """
    store = EpisodeStore(url)
    card = _card(store)
    shards: dict[str, list[RowGroup]] = {name: [] for name in store.footers}
    for group in store.row_groups:
        shards.setdefault(group.file, []).append(group)
    progress = Progress("checking images", sum(card.images.values()))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(lambda name: _Shard(store, name, shards[name]).check(), shards):
            card.sides += found.sides
            card.licences += found.licences
            card.faults += found.faults
            progress.update(card.sides.total())
    progress.close()
    return card


def write_contact_sheet(url: str, out: str) -> None:
    """Write a PNG with one image of each of up to 64 tasks of the data set at `url` to `out`."""
    store = EpisodeStore(url)
    tasks = [task for split in SPLITS for task in store.tasks(split)]
    chosen = tasks[:: math.ceil(len(tasks) / _SHEET_TASKS)]
    images = [decode(store.read(task, [0]), _SHEET_SIZE, 3) for task in chosen]
    write_file(out, contact_sheet(torch.cat(images)))


def _card(store: EpisodeStore) -> DataCard:
    tasks = {split: store.tasks(split) for split in SPLITS}
    return DataCard(
        store.url,
        {split: len(found) for split, found in tasks.items()},
        {split: sum(task.count for task in found) for split, found in tasks.items()},
        sum(group.length for group in store.row_groups),
    )


class _Shard:
    """One shard: what it holds, and its faults."""

    def __init__(self, store: EpisodeStore, name: str, groups: Sequence[RowGroup]) -> None:
        self._store, self._name, self._groups = store, name, groups
        self.sides: Counter[tuple[int, int]] = Counter()
        self.licences: Counter[str] = Counter()
        self.faults: list[str] = []

    def check(self) -> "_Shard":
        """Look at all of it."""
        try:
            data = read_file(f"{self._store.url}/{self._name}")
        except UserError as error:
            self.faults.append(str(error))
            return self
        self._check_hashes(data)
        if not self.faults:
            self._check_rows(data)
        return self

    def _fault(self, what: str) -> None:
        self.faults.append(f"{self._store.url}/{self._name}: {what}; copy or pack it again.")

    def _check_hashes(self, data: bytes) -> None:
        view = memoryview(data)
        for group in self._groups:
            if sha256_of(view[group.offset : group.end]) != group.sha256:
                self._fault(f"bytes {group.offset} to {group.end} are not those that were packed")
        footer = max((group.end for group in self._groups), default=0)
        if sha256_of(view[footer:]) != self._store.footers.get(self._name):
            self._fault("its footer is not the one that was packed")

    def _check_rows(self, data: bytes) -> None:
        """By Parquet's own reader, which must find the same as ours."""
        try:
            shard = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            if shard.num_row_groups != len(self._groups):
                self._fault(f"{shard.num_row_groups} row groups in place of {len(self._groups)}")
            for group in self._groups:
                rows = shard.read_row_group(group.row_group).to_pylist()
                self._check_group(group, rows, data[group.offset : group.end])
        except (pa.ArrowException, OSError, ValueError, LookupError) as error:
            self._fault(f"Parquet cannot read it ({str(error).splitlines()[0]})")

    def _check_group(self, group: RowGroup, rows: list[dict[str, Any]], data: bytes) -> None:
        where = f"task '{group.task}'"
        if {(row["task"], row["split"]) for row in rows} != {(group.task, group.split)}:
            self._fault(f"{where} is of another name or split than in the manifest")
        if [row["image"] for row in rows] != group.images_at(data, range(group.count)):
            self._fault(f"{where} has other images than the manifest says")
        for row in rows:
            self.sides[row["width"], row["height"]] += 1
            if licence := row.get("licence") or row.get("license"):
                self.licences[licence] += 1
            try:
                to_array(row["image"], _SHEET_SIZE, 3)
            except BadImage as error:
                self._fault(f"image {row['index']} of {where} cannot be decoded ({error})")
