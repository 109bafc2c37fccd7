"""Packing images, grouped into tasks, into a data set for `metatrain.data.packed.store`.

The same source with the same options gives the same bytes. Further tasks and images packed into the
same place add shards, and leave the shards that are there as they are.
"""

import logging
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from metatrain.base.errors import HeldError, UserError
from metatrain.base.progress import Progress, tracked
from metatrain.base.text import printable
from metatrain.data.images import Background, Bits
from metatrain.data.medical.nifti import SliceAxis
from metatrain.data.packed.manifest import by_task
from metatrain.data.packed.shard import shards_of
from metatrain.data.packed.writer import DatasetWriter
from metatrain.data.packing.built_in import BUILT_IN
from metatrain.data.packing.condition_columns import ConditionColumns
from metatrain.data.packing.growth import PackedTask, read_packed_task
from metatrain.data.packing.names import task_name
from metatrain.data.packing.patients import refuse_salt_within
from metatrain.data.packing.pixel_options import PixelOptions
from metatrain.data.packing.raw_images import Source
from metatrain.data.packing.rows import RowMaker
from metatrain.data.packing.sources import is_single_file, open_source
from metatrain.data.packing.sources.examples import Examples
from metatrain.data.packing.sources.listing import Options
from metatrain.data.packing.splits import assign_splits
from metatrain.data.packing.summary import PackSummary, Tally, add_summary
from metatrain.data.task_levels import ValueRange
from metatrain.storage.files import absolute, filesystem_of, write_file
from metatrain.storage.lease import LeaseKey, lease

_log = logging.getLogger(__name__)

__all__ = ["PackSummary", "assign_splits", "pack"]

# To be raised when the same source no longer gives the same data set.
_FORMAT = 2
# The longest side of a photograph that stays whole: an episode reads one tile.
_TILE = 512

# The part of the note with the split of every patient; data sets without patients have none.
_PATIENTS = "patients"

# Gives each task a split, by its own or None.
_Assign = Callable[[Mapping[str, str | None]], dict[str, str]]


def pack(
    source: str | Path | Examples,
    dest: str | Path,
    *,
    size: int | None = None,
    raw: bool = False,
    seed: int = 0,
    split: tuple[float, float, float] = (0.8, 0.1, 0.1),
    variant: str | None = None,
    conditions: Mapping[str, str] | None = None,
    task_depth: int | None = None,
    ignore_splits: bool = False,
    path_column: str | None = None,
    task_column: str | None = None,
    root: str | None = None,
    grow: bool = False,
    background: Background = "white",
    value_range: ValueRange = "per-task",
    photos: bool = False,
    patient_column: str | None = None,
    patient_salt: str | Path | None = None,
    slice_axis: SliceAxis = "axial",
    bits: Bits = 8,
    wait: bool = False,
) -> PackSummary:
    """Pack the images of `source` as a data set at `dest`, or add what is new to the one there.

    A task as a whole goes to train, val or test, so that val and test hold nothing but tasks that
    training never saw. A task's name is compared composed (NFC) and without blanks around it. An
    image comes once in a task, however many files have its pixels. Nothing outside of the source's
    folder is read: no symbolic link, no path in a table and no member of an archive leads out of
    it. Refused files are logged, and packing continues. When packing fails or is
    interrupted, its files are removed; the files of a killed process are removed by the next one.
    Added tasks get their splits among themselves, so that no task that is there changes its own.

    Args:
        source: a folder or archive with one folder of images for each task, these perhaps within
            folders of splits (train, val and test, in any usual spelling); or a .csv, .tsv, .jsonl
            or .parquet table with columns path (relative to the table) and task, optionally split,
            and metadata to keep; or anything else of `metatrain.data.packing.sources.KINDS`; or
            'glyphs', 'icons' or 'emoji', the benchmarks (for a folder of that name, write
            './icons'). Any fsspec URL. Or else images in Python: pairs of a task and an image (a
            PIL image, pixels of uint8 or uint16, the path of a file or its bytes), a
            `datasets.Dataset`, or several of these by split.
        dest: the folder to write; any fsspec URL.
        size: crop all images to squares of this many pixels a side; None keeps them as they are
            (glyphs are then drawn at 28, icons at 32, emoji at 64).
        raw: store the pixels themselves, which are read fastest and take most room; needs `size`.
        seed: decides, with a task's name, the split of tasks to which the source gives none.
        split: the shares of those tasks for train, val and test; they sum to 1.
        variant: a variant of a benchmark: glyphs with 'style' has faces as tasks in place of
            characters; icons with 'wide' has more and smaller tasks; emoji with 'hand' has as tasks
            what one hand draws, and with 'new-hand' its test tasks are of a hand not in training.
        conditions: metadata to pack as conditions of the images, by column the name of its kind:
            'text', 'vector' (numbers as JSON), 'image' or 'audio' (the path of a file), or another
            package's. Of a folder, 'text' and 'audio' are files beside images or their folders.
        task_depth: a task is a folder so many levels below the source, or below its folders of
            splits; None finds it out, or refuses what has several meanings.
        ignore_splits: take tasks from all splits of the source as one set, and split it anew.
        path_column: the column of a table that has paths, in place of path.
        task_column: the column of a table that has tasks, in place of task.
        root: the folder or archive that a table's paths start from, in place of its own folder.
        grow: add to tasks of the data set also where the source lacks images that they have.
        background: takes the place of transparency: 'white' or 'black'; 'auto' is white, or black
            for an image that white would hide; 'keep' packs RGBA.
        value_range: the values of images of more than 8 bits that become black and white:
            'per-task' takes the same for all images of a task, so that they stay comparable;
            'per-image' stretches each by itself; or two numbers.
        photos: take every image of a folder or archive, however deep, as a task of its own, whole
            and at its size; one with a side above 512 pixels is cut into tiles. This is the data
            of `data.tasks.name=degradations`.
        patient_column: the column of a table that names patients, in place of patient; each gets a
            pseudonym, and must be in one split.
        patient_salt: the file of the secret that pseudonyms are made with, which is made where it
            is missing; None is `metatrain/patient-salt` in the folder of the user's state.
        slice_axis: the direction in which slices of NIfTI volumes are stacked: 'axial', 'coronal'
            or 'sagittal'.
        bits: 16 keeps 16 bits of grey images, for `data.bits=16`, and refuses all others.
        wait: whether to wait until another process that packs into `dest` has ended.

    Raises:
        HeldError: when another process packs into `dest`.
        UserError: when there is nothing to pack, `dest` holds a data set that was packed with
            other options or has other images of the same task, or either cannot be reached.
    """
    _check_options(size, raw, split, photos, slice_axis)
    source, dest = str(source) if isinstance(source, Path) else source, str(dest)
    label = source if isinstance(source, str) else "the images"
    pixels = PixelOptions(size, raw, background, value_range, _TILE if photos else None, bits)
    _refuse_overlap(source, dest)
    refuse_salt_within(None if patient_salt is None else str(patient_salt), dest)
    reading = Options(
        size=size,
        variant=variant,
        task_depth=task_depth,
        ignore_splits=ignore_splits,
        path_column=path_column,
        task_column=task_column,
        root=root,
        photos=photos,
        conditions=tuple(conditions or ()),
        patient_column=patient_column,
        patient_salt=None if patient_salt is None else str(patient_salt),
        slice_axis=slice_axis,
        windowed=value_range == "per-task",
    )
    opened = open_source(source, reading)
    conditions = {**opened.conditions, **(conditions or {})}
    options = _recorded_options(pixels, reading, seed, split, conditions)
    if opened.patients:
        options["patients"] = opened.patients.mark
    columns = ConditionColumns(conditions, opened, label, size, raw)
    addition = _Addition(
        source=opened,
        label=label,
        dest=dest,
        options=options,
        assign=partial(assign_splits, seed=seed, shares=split),
        grow=grow,
        pixels=pixels,
        columns=columns,
    )
    with _leased(dest, wait) as held:
        return addition.add(held)


@dataclass(frozen=True, kw_only=True)
class _Addition:
    """An addition of a source to a data set, which it makes where there is none.

    Attributes:
        source: gives the images.
        label: names the source in messages.
        dest: the folder of the data set.
        options: what the data set is known by.
        assign: gives tasks without a split one.
        grow: whether the source may lack images of tasks that are there.
        pixels: decide how an image becomes plain.
        columns: encodes conditions.
    """

    source: Source
    label: str
    dest: str
    options: Mapping[str, Any]
    assign: _Assign
    grow: bool
    pixels: PixelOptions
    columns: ConditionColumns

    def add(self, held: LeaseKey) -> PackSummary:
        """Pack what is new, under a lease of the destination."""
        types = self.columns.types
        metadata = [column for column in self.source.columns if column not in types]
        writer = DatasetWriter(self.dest, metadata, types, bits=self.pixels.bits)
        before = writer.packed_before()
        self.columns.continue_with(writer.conditions)
        new = _new_tasks(self.source.identities, self.options, before, self.dest)
        if before and not new:
            return PackSummary(self.dest, **before["summary"], already_packed=True)
        packed = _packed_tasks(writer, new, self.dest)
        splits = _splits(self.source, new, packed, self.assign, self.dest)
        patients = self._patients(splits, before)
        tally = Tally(Progress("packing", sum(self.source.counts[name] for name in new)))
        for remark in self.source.remarks:
            tally.progress.say(remark)
        maker = RowMaker(
            source=self.source,
            splits=splits,
            packed=packed,
            dest=self.dest,
            grow=self.grow,
            pixels=self.pixels,
            columns=self.columns,
            tally=tally,
        )
        with _attempt(writer, held), closing(tally.progress):
            for row in maker.rows():
                writer.add(row)
            return self._committed(writer, held, tally, splits, new, before, patients)

    def _patients(
        self, splits: Mapping[str, str], before: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return the part of the note about patients: the split of each."""
        patients = self.source.patients
        known = (before or {}).get(_PATIENTS, {})
        return {_PATIENTS: patients.splits(splits, known)} if patients else {}

    def _committed(
        self,
        writer: DatasetWriter,
        held: LeaseKey,
        tally: Tally,
        splits: Mapping[str, str],
        new: Mapping[str, str],
        before: Mapping[str, Any] | None,
        patients: Mapping[str, Any],
    ) -> PackSummary:
        """Write the manifest, unless every image was there before."""
        known = before or {"tasks": {}, "summary": {}}
        if tally.present and not tally.kept:
            writer.clear()
            return PackSummary(self.dest, **known["summary"], already_packed=True)
        for name, data in self.source.beside().items():
            write_file(f"{self.dest}/{name}", data)
        counts = tally.summary(self.label, splits, known["tasks"])
        summary = add_summary(counts, known["summary"])
        tasks = {**known["tasks"], **new}
        held.check()
        note = {"options": self.options, "tasks": tasks, "summary": summary, **patients}
        writer.commit(note, self.columns.sections)
        return PackSummary(self.dest, **summary, near_copies=tally.near_copies)


def _recorded_options(
    pixels: PixelOptions,
    reading: Options,
    seed: int,
    split: tuple[float, float, float],
    conditions: Mapping[str, str],
) -> dict[str, Any]:
    """Return the options that a data set is known by; later ones only where they are chosen."""
    options: dict[str, Any] = {"size": pixels.size, "raw": pixels.raw, "seed": seed}
    options |= {"split": list(split), "format": _FORMAT}
    if pixels.background != "white":
        options["background"] = pixels.background
    if (chosen := pixels.value_range) != "per-task":
        options["range"] = chosen if isinstance(chosen, str) else list(chosen)
    if pixels.bits != 8:
        options["bits"] = pixels.bits
    if reading.variant:
        options["variant"] = reading.variant
    if reading.photos:
        options["photos"] = True
    if reading.slice_axis != "axial":
        options["slice_axis"] = reading.slice_axis
    if conditions:
        options["conditions"] = dict(conditions)
    return options


def _check_options(
    size: int | None,
    raw: bool,
    split: tuple[float, float, float],
    photos: bool,
    slice_axis: str,
) -> None:
    if len(split) != 3 or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
        raise UserError(
            f"split {split} must be three shares, for train, val and test, summing to 1."
        )
    if slice_axis not in get_args(SliceAxis):
        names = ", ".join(get_args(SliceAxis))
        raise UserError(f"slice_axis is '{slice_axis}'; it must be one of {names}.")
    if photos and (raw or size is not None):
        raise UserError("photographs keep their size; leave --size and --raw out.")
    if raw and size is None:
        raise UserError("raw pixels must all be of one size; give it, such as --size 32.")


@contextmanager
def _leased(dest: str, wait: bool) -> Iterator[LeaseKey]:
    """Hold `dest`; where it cannot be written, only what is packed there already can be told."""
    with ExitStack() as stack:
        try:
            key = stack.enter_context(lease(dest, "packs", wait=wait)).key
        except HeldError:
            raise
        except UserError as error:
            _log.info("no lease: %s", error)
            key = LeaseKey(dest, "")
        yield key


@contextmanager
def _attempt(writer: DatasetWriter, held: LeaseKey) -> Iterator[None]:
    """Remove the files of the block inside if it fails, and they can be no one else's."""
    writer.begin()
    try:
        yield
    except BaseException:
        with suppress(Exception):
            held.check()
            writer.clear()
        raise


def _new_tasks(
    identities: Mapping[str, str],
    options: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    dest: str,
) -> dict[str, str]:
    """Return the tasks that `dest` does not have as they are now, with their identities."""
    if before is None:
        return dict(identities)
    if before.get("options") != options:
        raise UserError(
            f"{dest} already holds a data set that was packed with other options; "
            "choose another DEST, or remove that data set first."
        )
    packed: Mapping[str, str] = before["tasks"]
    for name in packed:
        if (alike := task_name(name)) != name and alike in identities:
            raise UserError(
                f"{dest} already holds a data set with task {name!a}, which this source spells "
                f"{alike!a}; choose another DEST, or remove that data set first."
            )
    return {name: identity for name, identity in identities.items() if packed.get(name) != identity}


def _packed_tasks(writer: DatasetWriter, names: Iterable[str], dest: str) -> dict[str, PackedTask]:
    """Read the tasks among `names` that the data set has already, for images to be added."""
    groups = by_task(writer.row_groups)
    # In the order of the shards, so that each is read once.
    known = sorted(
        (name for name in names if name in groups),
        key=lambda name: (groups[name][0].file, groups[name][0].offset),
    )
    shard = shards_of(dest, writer.row_groups, writer.footers)
    progress = tracked("reading packed tasks", known, len(known))
    packed = {name: read_packed_task(groups[name], shard) for name in progress}
    for name, task in packed.items():
        writer.continue_task(name, task.sources)
    return packed


def _splits(
    source: Source,
    new: Iterable[str],
    packed: Mapping[str, PackedTask],
    assign: _Assign,
    dest: str,
) -> dict[str, str]:
    """Return the split of every task in `new`: one that is packed keeps its own."""
    for name, task in packed.items():
        if source.splits[name] not in (None, task.split):
            raise UserError(
                f"{dest} already holds a data set with task '{printable(name)}' in the split "
                f"{task.split}, and this source has it in {source.splits[name]}; choose another "
                f"DEST."
            )
    assigned = assign({name: source.splits[name] for name in new if name not in packed})
    return assigned | {name: task.split for name, task in packed.items()}


def _refuse_overlap(source: str | Examples, dest: str) -> None:
    """Refuse to pack into the source: packed files would be packed again, or overwrite images."""
    if not isinstance(source, str) or source in BUILT_IN:
        return
    one_file = is_single_file(source)
    source_fs, path = _place(posixpath.dirname(absolute(source)) if one_file else source)
    dest_fs, root = _place(dest)
    overlap = root == path if one_file else PurePosixPath(root).is_relative_to(path)
    if overlap and type(source_fs) is type(dest_fs):
        raise UserError(f"DEST {dest} lies in SOURCE {source}; choose a DEST outside of it.")


def _place(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of `url`, and the path within it without links and dots."""
    fs, path = filesystem_of(url)
    return fs, os.path.realpath(path) if isinstance(fs, LocalFileSystem) else path
