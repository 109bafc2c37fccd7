"""Checking a data set: every byte against its hash, every count, and every value by decoding it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress, tracked
from metatrain.base.text import counted, printable, reason_of
from metatrain.data.conditions import CONDITIONS, ConditionKind
from metatrain.data.decoding.grey_16 import GREY_16
from metatrain.data.fingerprint import Fingerprint, fingerprint_of, near_copies
from metatrain.data.images import BadImage, BadValue, inspect, open_packed
from metatrain.data.labelled_sheet import labelled_sheet, unwritable
from metatrain.data.packed.latents import LATENT, PackedLatents, decode_latents
from metatrain.data.packed.manifest import (
    IMAGE,
    MALFORMED,
    SPLITS,
    PackedConditions,
    RowGroup,
    alone,
    as_bytes,
)
from metatrain.data.packed.parquet_headers import refuse_bomb
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import sha256_of
from metatrain.data.pictures import decode
from metatrain.storage.files import read_file, write_file

# Shards in memory at the same time.
_CONCURRENT = 2
_SHEET_TASKS, _SHEET_SIZE = 64, 64


@dataclass
class DataCard:
    """The contents of a data set, and its faults.

    Attributes:
        url: where the data set lies.
        tasks: the number of tasks by split.
        images: the number of images by split.
        stored: bytes of all row groups.
        conditions: by column, the plain values of the section of a condition's kind.
        missing: by column, the number of images that lack a condition.
        latents: the latents that are stored with the images, if any are.
        sides: the number of images by width and height in pixels.
        licences: the number of images by licence, where the data set has licences.
        copies: the number of images with the pixels of another of their task.
        near_copies: the number of images that are nearly the same as another of their task.
        warnings: the number of images by what deserves a look, such as ``a single colour``.
        faults: a sentence for everything that differs from what was packed.
    """

    url: str
    tasks: dict[str, int]
    images: dict[str, int]
    stored: int
    conditions: PackedConditions
    latents: PackedLatents | None
    missing: Counter[str] = field(default_factory=Counter)
    sides: Counter[tuple[int, int]] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    copies: int = 0
    near_copies: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.url]
        lines += [
            f"  {s}: {counted(self.tasks[s], 'task')}, {counted(self.images[s], 'image')}"
            for s in SPLITS
        ]
        lines.append(f"  stored: {self.stored / 1e6:,.1f} MB")
        lines += [
            f"  condition {printable(name)}: {printable(_told(kind))}{self._lacking(name)}"
            for name, kind in self.conditions.items()
        ]
        if self.latents:
            shape = " x ".join(map(str, self.latents.shape))
            lines.append(f"  latents: {shape}, by the codec with sha256 {self.latents.codec}")
        lines += [
            f"  {counted(n, 'image')} of {w} x {h} pixels"
            for (w, h), n in self.sides.most_common(5)
        ]
        if len(self.sides) > 5:
            lines.append(f"  and {counted(len(self.sides) - 5, 'other size')}")
        lines += [
            f"  {counted(n, 'image')} under {printable(name)}"
            for name, n in self.licences.most_common()
        ]
        copies = {"": self.copies, "nearly ": self.near_copies}
        lines += [
            f"  {counted(n, 'image')} {nearly}the same as another of the task: scores are flattered"
            for nearly, n in copies.items()
            if n
        ]
        lines += [
            f"  {counted(n, 'image')} to look at: {name}" for name, n in self.warnings.most_common()
        ]
        return "\n".join(lines)

    def _lacking(self, condition: str) -> str:
        missing = self.missing[condition]
        return f"; {counted(missing, 'image')} without" if missing else ""


def check(url: str) -> DataCard:
    """Read all of the data set at `url` and compare it with its manifest.

    Raises:
        UserError: when there is no data set, or it cannot be reached, or has conditions of a kind
            that is not installed here.
    """
    store = EpisodeStore(url)
    card, kinds = _card(store), _kinds(store)
    shards: dict[str, list[RowGroup]] = {name: [] for name in store.footers}
    for group in store.row_groups:
        shards.setdefault(group.file, []).append(group)
    by_task: dict[str, list[Fingerprint]] = {}
    progress, done, lock = Progress("checking images", sum(card.images.values())), 0, Lock()

    def count(images: int) -> None:
        nonlocal done
        with lock:
            done += images
            progress.update(done)

    with ThreadPoolExecutor(_CONCURRENT) as pool:
        checks = pool.map(
            lambda name: _Shard(store, kinds, name, shards[name], count).check(), shards
        )
        for shard in checks:
            card.sides += shard.sides
            card.missing += shard.missing
            card.licences += shard.licences
            card.warnings += shard.warnings
            card.faults += shard.faults
            for task, fingerprints in shard.fingerprints.items():
                by_task.setdefault(task, []).extend(fingerprints)
    progress.close()
    if not card.faults and store.missing not in (None, card.missing):
        card.faults.append(f"{url} has other counts of missing conditions; pack it again.")
    for fingerprints in by_task.values():
        # An image and its equal copies are one, or the copies would be near copies too.
        distinct = {fingerprint.pixels: fingerprint.outline for fingerprint in fingerprints}
        card.copies += len(fingerprints) - len(distinct)
        card.near_copies += near_copies(list(distinct.values()))
    return card


def write_contact_sheet(url: str, out: str) -> str:
    """Write a PNG with one image and the name of each of up to 64 tasks of the data set at `url`.

    Returns:
        A sentence on the tasks that it shows, and a line for each name that its font cannot write.
    """
    store = EpisodeStore(url)
    tasks = [task for split in SPLITS for task in store.tasks(split)]
    count = min(_SHEET_TASKS, len(tasks))
    chosen = [tasks[number * len(tasks) // count] for number in range(count)]
    firsts = tracked("reading tasks", chosen, count)
    images = [decode(store.read(task, [0]), _SHEET_SIZE, 3) for task in firsts]
    names = [task.name for task in chosen]
    write_file(out, labelled_sheet(torch.cat(images), names))
    part = f"{count:,} of " if count < len(tasks) else "each of "
    legend = [f"  {number}: {printable(name)}" for name, number in unwritable(names).items()]
    return "\n".join([f"{out}: the first image of {part}{counted(len(tasks), 'task')}", *legend])


def _card(store: EpisodeStore) -> DataCard:
    tasks = {split: store.tasks(split) for split in SPLITS}
    return DataCard(
        store.url,
        {split: len(of_split) for split, of_split in tasks.items()},
        {split: sum(task.count for task in of_split) for split, of_split in tasks.items()},
        sum(group.length for group in store.row_groups),
        store.conditions,
        store.latents,
    )


def _kinds(store: EpisodeStore) -> dict[str, ConditionKind]:
    kinds: dict[str, ConditionKind] = {}
    for column, section in store.conditions.items():
        kind = CONDITIONS.get(str(section.get("name")))
        try:
            if kind is None:
                raise ValueError("no such kind is installed")
            kinds[column] = kind(kind.Config.model_validate(section), _SHEET_SIZE, 3)
        except ValueError as error:
            raise UserError(
                f"{store.url} has the condition '{column}' of kind {_told(section)}, which cannot "
                f"be checked ({reason_of(error)}); install the package that registers "
                f"it, or pack the data again."
            ) from error
    return kinds


def _told(section: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{key} {value}" for key, value in section.items() if key != "name")
    return f"{section.get('name')} ({rest})" if rest else f"{section.get('name')}"


class _Shard:
    """The check of one shard: its contents, and its faults; `count` takes images as it goes."""

    def __init__(
        self,
        store: EpisodeStore,
        kinds: Mapping[str, ConditionKind],
        name: str,
        groups: Sequence[RowGroup],
        count: Callable[[int], None],
    ) -> None:
        self._store, self._kinds, self._name, self._groups = store, kinds, name, groups
        self._count = count
        self.sides: Counter[tuple[int, int]] = Counter()
        self.missing: Counter[str] = Counter()
        self.licences: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self.faults: list[str] = []
        self.fingerprints: dict[str, list[Fingerprint]] = {}

    def check(self) -> "_Shard":
        """Check all of it."""
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
        """Read with Parquet's own reader, which must give the same as ours."""
        try:
            refuse_bomb(data)
            shard = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            if shard.num_row_groups != len(self._groups):
                self._fault(f"{shard.num_row_groups} row groups in place of {len(self._groups)}")
            for group in self._groups:
                if shard.metadata.row_group(group.row_group).num_rows != group.count:
                    raise ValueError("a row group has other rows than the manifest")
                rows = shard.read_row_group(group.row_group).to_pylist()
                self._check_group(group, rows, data[group.offset : group.end])
                self._count(group.count)
        except MALFORMED as error:
            self._fault(f"Parquet cannot read it ({reason_of(error)})")

    def _check_group(self, group: RowGroup, rows: list[dict[str, Any]], data: bytes) -> None:
        where = f"task '{printable(group.task)}'"
        if {(row["task"], row["split"]) for row in rows} != {(group.task, group.split)}:
            self._fault(f"{where} is of another name or split than in the manifest")
        for column in (IMAGE, *self._kinds):
            values = group.values_at(column, data, range(group.count))
            if [as_bytes(row[column]) for row in rows] != values:
                self._fault(f"{where} has other values of column '{column}' than the manifest")
        self._check_latents(group, rows, data)
        for row in rows:
            self.sides[row["width"], row["height"]] += 1
            if licence := row.get("licence") or row.get("license"):
                self.licences[licence] += 1
            self.missing.update(column for column in self._kinds if not row[column])
            for what in self._undecodable(group.task, row):
                self._fault(f"image {row['index']} of {where} {what}")

    def _check_latents(self, group: RowGroup, rows: list[dict[str, Any]], data: bytes) -> None:
        latents, where = self._store.latents, f"task '{printable(group.task)}'"
        if latents is None:
            return
        part = alone(group, latents)
        if sha256_of(data[part.offset - group.offset : part.end - group.offset]) != part.sha256:
            self._fault(f"the latents of {where} are not those that were packed")
        values = group.values_at(LATENT, data, range(group.count))
        if [row[LATENT] for row in rows] != values:
            self._fault(f"{where} has other latents than the manifest")
        try:
            decode_latents(values, latents.shape)
        except BadValue as error:
            self._fault(f"{where} has a latent that cannot be decoded ({error})")

    def _undecodable(self, task: str, row: Mapping[str, Any]) -> Iterator[str]:
        try:
            image = open_packed(row[IMAGE])
            if (image.mode == GREY_16) != (self._store.bits == 16):
                yield f"has not {self._store.bits} bits a channel"
            fingerprint = fingerprint_of(image)
            self.fingerprints.setdefault(task, []).append(fingerprint)
            if warning := inspect(row[IMAGE]):
                self.warnings[warning] += 1
        except BadImage as error:
            yield f"cannot be decoded ({error})"
        for column, kind in self._kinds.items():
            try:
                kind.decode([as_bytes(row[column])])
            except BadValue as error:
                yield f"has a value in column '{column}' that cannot be decoded ({error})"
